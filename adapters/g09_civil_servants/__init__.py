"""The national database of cadres, civil servants and public employees (Bộ Nội vụ)."""
