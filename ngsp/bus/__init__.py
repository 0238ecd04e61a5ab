"""How messages travel between gateways and adapters: one protocol, two buses.

`base.Bus` says what a bus promises; `kafka.KafkaBus` keeps it over Apache Kafka, `embedded.EmbeddedBus` inside one
process. SQL is the truth and the bus only carries: what a crash takes from it, the outbox sends again.
"""

from ngsp.bus.base import Bus, Message, Subscription, Topic
from ngsp.bus.embedded import EmbeddedBus

__all__ = ["Bus", "EmbeddedBus", "Message", "Subscription", "Topic"]
