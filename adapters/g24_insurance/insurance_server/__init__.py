"""Stand-in for the health-insurance system of Bảo hiểm xã hội Việt Nam."""
