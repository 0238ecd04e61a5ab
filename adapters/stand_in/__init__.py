"""What the stand-ins of providers' systems share: a server with switches to misbehave, and its command line.

Nothing of the bus is imported. What a system speaks is beside: `adapters/rest_server`, `adapters/soap_server`.
"""
