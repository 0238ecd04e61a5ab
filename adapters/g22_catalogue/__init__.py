"""The shared catalogue of administrative units (Văn phòng Chính phủ, G22)."""
