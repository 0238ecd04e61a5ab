"""The few options of curl that the README uses, for machines that have no curl: the transcript is run all the same."""

from __future__ import annotations

import argparse
import sys
from http import HTTPStatus

import httpx


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-i", action="store_true", dest="include")
    parser.add_argument("-u", dest="user")
    parser.add_argument("-d", dest="data")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("url")
    asked = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in asked.headers)
    if asked.data is not None:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} | headers
    answer = httpx.request(
        asked.method or ("GET" if asked.data is None else "POST"),
        asked.url,
        content=None if asked.data is None else asked.data.encode(),
        headers=headers,
        auth=tuple(asked.user.split(":", 1)) if asked.user else None,
        timeout=60,
    )
    if asked.include:
        status = HTTPStatus(answer.status_code)
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        lines += [f"{name.decode()}: {value.decode()}" for name, value in answer.headers.raw]
        sys.stdout.write("".join(f"{line}\r\n" for line in lines) + "\r\n")
    sys.stdout.write(answer.text)


if __name__ == "__main__":
    main()
