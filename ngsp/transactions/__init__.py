"""The transaction log: append-only, group-committed, in one canonical form; with the outbox beside it.

What always holds: an acceptance is durable before anything is published, an outcome before success is reported; every
transaction gets exactly one terminal entry (an *unknown* may be followed by one *resolved*).
"""
