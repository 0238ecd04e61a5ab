"""A stand-in for the national registry of enterprises: a program of its own with its own data and its own format.

It shares no code with the bus or the adapter; the adapter knows it by HTTP alone. Start it with
`python -m adapters.g12_enterprise.registry_server --port 0`.
"""
