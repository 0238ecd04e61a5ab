"""Calling services over the bus, for agency systems: written once, for programs that block and for asyncio.

```python
with Client("https://ngsp.example.gov.vn", ClientSecret("g22-portal", secret), purpose="catalogue-lookup") as bus:
    unit = bus.call("G22/administrative-units/v1", {"code": "17920"}).json()
```

Tokens are fetched, kept and renewed; what is harmless to repeat is repeated, and nothing else; each error is a class
(`errors.py` has the tree). Nothing is logged here, neither payloads nor tokens. `docs/calling.md` goes through it. It
needs httpx, and joserfc where a key signs; nothing of the server is imported.
"""

from ngsp.client import errors, webhooks
from ngsp.client.blocking import Client
from ngsp.client.calls import Defaults, Options, Prepared, Reply, Submission, new_key
from ngsp.client.credentials import ClientSecret, Credentials, PrivateKey
from ngsp.client.errors import CallError, Problem
from ngsp.client.following import Event, Filters, Page, Transaction
from ngsp.client.nonblocking import AsyncClient
from ngsp.client.publishing import NewEvent, Published
from ngsp.client.repeating import NEVER, Retry
from ngsp.client.wire import Answer

__all__ = [
    "NEVER",
    "Answer",
    "AsyncClient",
    "CallError",
    "Client",
    "ClientSecret",
    "Credentials",
    "Defaults",
    "Event",
    "Filters",
    "NewEvent",
    "Options",
    "Page",
    "Prepared",
    "PrivateKey",
    "Problem",
    "Published",
    "Reply",
    "Retry",
    "Submission",
    "Transaction",
    "errors",
    "new_key",
    "webhooks",
]
