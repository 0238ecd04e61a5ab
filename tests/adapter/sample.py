"""An adapter to be run by `ngsp adapter run tests.adapter.sample`, whose tests kill it at the worst moment.

The service function leaves its effect, says so by a file, and then waits for another file before it answers.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import cast

from ngsp.adapter import Request
from ngsp.messages import Effect
from tests.adapter.office import Office
from tests.adapter.signs import EFFECT_VARIABLE, FOLDER_VARIABLE, NAME_VARIABLE, begun_file, gate_file

POLL_S = 0.02

_folder = Path(os.environ[FOLDER_VARIABLE])
_office = Office(cast("Effect", os.environ[EFFECT_VARIABLE]), _folder, name=os.environ[NAME_VARIABLE])
adapter = _office.adapter


async def _enter_and_wait(request: Request) -> object:
    done = await _office.enter(request)
    begun_file(_folder, request.id).touch()
    while not gate_file(_folder).exists():
        await asyncio.sleep(POLL_S)
    if request.payload.get("then") == "fails":
        raise ValueError(f"no such person: {request.payload['note']}")
    return done


_office.work = _enter_and_wait
