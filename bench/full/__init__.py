"""The full path: a gateway and an adapter as they are deployed, over the bench's PostgreSQL and Kafka.

Token, agreement, quota, schemas both ways, two durable entries with keyed digests under a key of the record's own, the
searchable projection, metrics and the stages' timings: everything a call costs in production is in it.
"""

from bench.full.target import FullTarget

__all__ = ["FullTarget"]
