"""Stand-in for the land database: parcels of the sample population, on PostgreSQL or MariaDB."""
