"""The floor: the least that one request must cost with these libraries, this broker and this database.

A bare ASGI application on uvicorn, aiokafka there and back through a real broker, an echo beside it, and two
group-committed COPY rows in PostgreSQL: one durable before the request is published, one before it is answered. No
token, no agreement, no schema, no error handling, none of the bus's own code. What the full path costs is told as a
ratio to this.
"""
