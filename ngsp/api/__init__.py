"""The HTTP side of the gateway: one file for each noun, and the server's edge below ASGI."""
