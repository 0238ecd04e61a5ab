"""The real PostgreSQL and the real Kafka on one person's machine, without containers: for demo, tests and bench.

`postgres.LocalPostgres` and `kafka.LocalKafka` start, stop and kill a server whose data stays in a folder. Nothing here
is used by a gateway that is given a database and a broker by address.
"""
