"""Stand-in for the health ministry's system of signed papers."""
