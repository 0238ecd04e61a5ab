"""Topics, made before anybody uses them: the broker makes none by itself."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code


async def create_topics(bootstrap: str, *names: str) -> None:
    """One partition and one replica each. What the broker refuses raises its KafkaError, an existing topic too."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1) for name in names])
        for name, code, message in answer.topic_errors:
            if code:
                raise for_code(code)(f"{name}: {message}")
    finally:
        await admin.close()
