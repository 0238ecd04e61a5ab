"""NGSP: a data-exchange bus for government. See docs/architecture.md for the request's way through it."""

__version__ = "0.1.0"
