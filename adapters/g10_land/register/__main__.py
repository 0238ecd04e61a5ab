"""`python -m adapters.g10_land.register --database-url URL`."""

from __future__ import annotations

from adapters.g10_land.register.data import FILLING
from adapters.stand_in.database import main

if __name__ == "__main__":
    main(FILLING, "Fills the stand-in for the land database")
