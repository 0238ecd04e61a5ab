"""Tax obligations (Bộ Tài chính, G12)."""
