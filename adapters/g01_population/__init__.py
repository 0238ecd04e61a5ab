"""Look-up in the population database (Bộ Công an, G01.01), on synthetic citizens."""
