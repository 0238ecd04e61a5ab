"""Who is calling: secrets, assertions and access tokens → `Caller`."""
