"""A REST server for the stand-ins of providers' systems: JSON, OAuth 2 client credentials, switches to misbehave.

It shares no code with the bus. A stand-in says what it answers (`server.Answering`) and starts by `program.run`.
"""
