"""Health insurance of Bảo hiểm xã hội Việt Nam (G24)."""
