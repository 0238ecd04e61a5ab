"""The gateway as an ASGI application, configured by `NGSP_*`; `ngsp serve` runs it with the limits that belong to it."""

from ngsp.app import create_app

app = create_app()
