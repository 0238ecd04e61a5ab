"""Birth notices and health certificates (Bộ Y tế, G18)."""
