"""Stand-in for the province's one-stop system."""
