"""Look-up in the registry of enterprises (Bộ Tài chính, G12)."""
