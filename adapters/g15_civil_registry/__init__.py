"""The national civil registry (Bộ Tư pháp, G15)."""
