"""Customs declarations of Bộ Tài chính (G12), by files."""
