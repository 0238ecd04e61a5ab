"""The command line of a stand-in. Prints one JSON line when it serves, ends with 0 on SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.soap_server.messages import Contract
from adapters.soap_server.security import Account, Guard
from adapters.soap_server.server import FAULTS, SoapServer, Work


def run(name: str, contract: Contract, work: Mapping[str, Work], *, username: str, digest: bool, subjects: int) -> None:
    """Serves until it is told to end. Its password is made anew at each start, unless a file has one."""
    options = _options(name)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    password = _password(options.password_file)
    guard = Guard(Account(username, password, digest))
    server = SoapServer(contract, guard, work, options.port, options.control_port)
    server.switch(options.fault, options.delay_s)
    told: dict[str, Any] = {"url": server.url, "control_url": server.control_url, "subjects": subjects}
    told |= {"username": username, "password_file": str(options.password_file.absolute())}
    line = json.dumps(told)
    if options.ready_file:
        unfinished = options.ready_file.with_suffix(".tmp")
        unfinished.write_text(line, "utf-8")
        unfinished.rename(options.ready_file)
    print(line, flush=True)
    ended.wait()
    server.close()


def _options(name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=name, description="Stand-in for a SOAP system, on the loopback interface")
    parser.add_argument("--port", type=int, default=0, help="port of the system; 0 takes a free one")
    parser.add_argument("--control-port", type=int, help="port of the fault switches; 0 takes a free one; none without")
    parser.add_argument("--fault", choices=FAULTS, default="none", help="fault to begin with")
    parser.add_argument("--delay-s", type=float, default=1.0, help="delay of the fault slow, in seconds")
    parser.add_argument("--ready-file", type=Path, help="file to write the JSON line to as well")
    parser.add_argument("--password-file", type=Path, help="file with the password; made where it is missing")
    options = parser.parse_args()
    if options.password_file is None:
        if options.ready_file is None:
            parser.error("--password-file or --ready-file is needed: the password stands beside")
        options.password_file = options.ready_file.with_suffix(".password")
    return options


def _password(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("ascii").strip()
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(24))
    return path.read_text("ascii")
