"""Members, clients, services, adapters and agreements: load, find, register. The request path reads `Snapshot` only."""
