"""The national catalogue of administrative procedures (Văn phòng Chính phủ, G22)."""
