"""Stand-in for the customs office: a folder, batches by day, and answers to what is left there."""
