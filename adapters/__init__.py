"""Sample adapters: one folder for each member's system, with its manifest and code."""
