"""Registration of births in the civil registry of Nghệ An (H41)."""
