"""Stand-in for the national database of administrative procedures."""
