"""The one-stop shop of Nghệ An (H41): dossiers in, results out."""
