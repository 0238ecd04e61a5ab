"""Command line of the stand-in registry. Prints one JSON line when it serves, ends with 0 on SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path

from adapters.g12_enterprise.registry_server.data import enterprises
from adapters.g12_enterprise.registry_server.server import FAULTS, Registry


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="registry_server", description="Stand-in for the registry of enterprises, on the loopback interface"
    )
    parser.add_argument("--port", type=int, default=0, help="port of the registry; 0 takes a free one")
    parser.add_argument("--control-port", type=int, help="port of the fault switches; 0 takes a free one; none without")
    parser.add_argument("--fault", choices=FAULTS, default="none", help="fault to begin with")
    parser.add_argument("--delay-s", type=float, default=1.0, help="delay of the fault slow, in seconds")
    parser.add_argument("--ready-file", type=Path, help="file to write the JSON line to as well")
    options = parser.parse_args()

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    registry = Registry(enterprises(), options.port, options.control_port)
    registry.switch(options.fault, options.delay_s)
    line = json.dumps({"url": registry.url, "control_url": registry.control_url, "enterprises": len(registry.records)})
    if options.ready_file:
        unfinished = options.ready_file.with_suffix(".tmp")
        unfinished.write_text(line, "utf-8")
        unfinished.rename(options.ready_file)
    print(line, flush=True)
    ended.wait()
    registry.close()


if __name__ == "__main__":
    main()
