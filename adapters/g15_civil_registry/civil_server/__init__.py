"""Stand-in for the national civil registry."""
