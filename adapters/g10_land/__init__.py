"""The national land database: parcels (Bộ Nông nghiệp và Môi trường)."""
