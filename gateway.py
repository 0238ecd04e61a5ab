"""The gateway as an ASGI application, configured by `NGSP_*`; `ngsp serve` runs it with its limits."""

from ngsp.app import create_app

app = create_app()
