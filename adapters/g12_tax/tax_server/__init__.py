"""Stand-in for the tax authority's system."""
