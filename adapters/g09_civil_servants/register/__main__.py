"""`python -m adapters.g09_civil_servants.register --database-url URL`."""

from __future__ import annotations

from adapters.g09_civil_servants.register.data import FILLING
from adapters.stand_in.database import main

if __name__ == "__main__":
    main(FILLING, "Fills the stand-in for the database of civil servants")
