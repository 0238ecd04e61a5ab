"""What an author of an adapter (bộ kết nối) reads: declare services, raise one of four errors, return JSON.

```python
adapter = Adapter.load(Path(__file__).with_name("manifest.yaml"))


@adapter.service("administrative-units", "v1")
async def administrative_units(request: Request) -> object:
    return {"code": request.payload["code"]}
```

A service of events has a source instead, which says what changed after a cursor:

```python
@adapter.source("procedure-events", "v1", every_s=5)
async def changes(cursor: str | None) -> Found: ...
```

`runner.AdapterRunner` takes messages from the bus, guards the effect with the inbox, and sends the reply; whatever is
done to a message on its way (signatures, encryption) is done there, so that an adapter never changes for it.
"""

from ngsp.adapter.answer import Answer
from ngsp.adapter.definition import (
    Adapter,
    AdapterError,
    Failed,
    Interrupted,
    RecordNotFound,
    Refused,
    Request,
    Unavailable,
)
from ngsp.adapter.events import Event, Found
from ngsp.adapter.manifest import Manifest, ManifestError, ServiceManifest

__all__ = [
    "Adapter",
    "AdapterError",
    "Answer",
    "Event",
    "Failed",
    "Found",
    "Interrupted",
    "Manifest",
    "ManifestError",
    "RecordNotFound",
    "Refused",
    "Request",
    "ServiceManifest",
    "Unavailable",
]
