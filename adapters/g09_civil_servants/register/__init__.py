"""Stand-in for the database of civil servants: its tables and synthetic people, on PostgreSQL or MariaDB."""
