"""`Registry`: the snapshot that the request path reads, and every change of it. The one class others need to know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngsp.config import Settings
from ngsp.errors import NotFound
from ngsp.identity.secrets import new_secret
from ngsp.registry import (
    adapters,
    agreements,
    clients,
    compatible_routes,
    heartbeats,
    life,
    members,
    resealing,
    states,
    subscriptions,
)
from ngsp.registry.adapters import AdapterRecord
from ngsp.registry.agreement_records import AgreementRecord
from ngsp.registry.change import ANY, Actor, Change, Condition, Stored, change, reading
from ngsp.registry.documents import (
    ClientDocument,
    HeartbeatDocument,
    KeyDocument,
    MemberDocument,
    ProposalDocument,
    ReasonDocument,
    RouteDocument,
    StateDocument,
    TermsDocument,
)
from ngsp.registry.heartbeats import AdapterProcess
from ngsp.registry.manifest_documents import ManifestDocument
from ngsp.registry.manifests import check_manifest
from ngsp.registry.model import Client, ClientKey, Member, Snapshot, Subscription
from ngsp.registry.routes import CompatibleRoute, RouteTable
from ngsp.registry.sealing import Seal, seal_by
from ngsp.registry.states import Decision
from ngsp.registry.subscription_documents import NewSecretDocument, ReplayDocument, SubscriptionDocument
from ngsp.registry.watch import OnChange, Watcher
from ngsp.vault import Vault

logger = structlog.get_logger(__name__)

HashSecret = Callable[[str], Awaitable[str]]
_OWN_CHANGE_TIMEOUT_S = 2.0


class Registry:
    """The registry over one database.

    `engine`: for changes and lists; the watch has a connection of its own. `hash_secret`: a slow hash (argon2id).
    `seal`: a vault's; by the keys of `settings` where none is given. Until `start()` there are changes and lists, and
    no snapshot.
    """

    def __init__(
        self, settings: Settings, engine: AsyncEngine, hash_secret: HashSecret, seal: Seal | None = None
    ) -> None:
        self._engine = engine
        self.given = subscriptions.Given(seal or seal_by(settings), settings.webhook_allowed_networks)
        """What subscriptions need beside the database."""
        self._hash_secret = hash_secret
        self.max_body_bytes = settings.max_body_bytes
        self._watcher = Watcher(
            settings.database_url.get_secret_value(),
            poll_s=settings.registry_poll_s,
            stale_s=settings.registry_stale_s,
        )

    async def start(self) -> None:
        """Loads the first snapshot and keeps it up to date from then on. The database's error where it is away."""
        await self._watcher.start()

    async def stop(self) -> None:
        await self._watcher.stop()

    @property
    def snapshot(self) -> Snapshot:
        """The registry in memory, at most a second old; `RegistryStale` (503) where that is not certain any more."""
        return self._watcher.snapshot

    @property
    def routes(self) -> RouteTable:
        """The compatible routes as last known: what an address is, whether or not the registry can be asked now."""
        return self._watcher.last_known.routes

    @property
    def age_s(self) -> float:
        """Seconds since the database last confirmed the snapshot; infinite before the start."""
        return self._watcher.age_s

    def on_change(self, callback: OnChange) -> None:
        """`await callback(snapshot)` after each change, the first load included, and again where it failed."""
        self._watcher.on_change(callback)

    @asynccontextmanager
    async def change(self, actor: Actor, *, dry_run: bool = False) -> AsyncIterator[Change]:
        """A transaction for the functions of this package; once it is committed, the snapshot here holds it."""
        async with change(self._engine, actor, dry_run=dry_run) as opened:
            yield opened
        if (
            opened.touched
            and not dry_run
            and self._watcher.running
            and not await self._watcher.reached(opened.revision, _OWN_CHANGE_TIMEOUT_S)
        ):
            logger.warning("registry.own_change_not_seen", revision=opened.revision)

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for the package's `get_…` and `list_…`; `RegistryStale` (503) where the database is away."""
        return reading(self._engine)

    async def put_member(
        self, actor: Actor, code: str, document: MemberDocument, condition: Condition = ANY
    ) -> Stored[Member]:
        async with self.change(actor) as opened:
            return await members.put_member(opened, code, document, condition)

    async def put_route(
        self, actor: Actor, route_id: str, document: RouteDocument, condition: Condition = ANY
    ) -> Stored[CompatibleRoute]:
        async with self.change(actor) as opened:
            return await compatible_routes.put_route(opened, route_id, document, condition)

    async def put_subscription(
        self, actor: Actor, id: str, document: SubscriptionDocument, condition: Condition = ANY
    ) -> tuple[Stored[Subscription], str | None]:
        """The subscription, and the secret of its webhook where it got one: it cannot be seen at any other moment."""
        async with self.change(actor) as opened:
            return await subscriptions.put_subscription(opened, id, document, self.given, condition)

    async def new_webhook_secret(
        self, actor: Actor, id: str, document: NewSecretDocument, condition: Condition = ANY
    ) -> tuple[Stored[Subscription], str]:
        async with self.change(actor) as opened:
            return await subscriptions.new_secret(opened, id, document, self.given, condition)

    async def reseal_secrets(self, actor: Actor, vault: Vault) -> int:
        """Seals the secrets of webhooks under the vault's first key; of how many subscriptions."""
        async with self.change(actor) as opened:
            return await resealing.reseal_secrets(opened, vault)

    async def replay(self, actor: Actor, id: str, document: ReplayDocument, condition: Condition = ANY) -> None:
        async with self.change(actor) as opened:
            place = await subscriptions.replay(opened, id, document, condition)
        logger.warning("subscription.replayed", subscription=id, place=str(place), by=actor.client)

    async def resume(self, actor: Actor, id: str, condition: Condition = ANY) -> None:
        async with self.change(actor) as opened:
            await subscriptions.resume(opened, id, condition)
        logger.warning("subscription.resumed", subscription=id, by=actor.client)

    async def put_client(
        self, actor: Actor, client_id: str, document: ClientDocument, condition: Condition = ANY
    ) -> tuple[Stored[Client], str | None]:
        """The client, and its new secret where it got one: there is no other moment at which it can be seen."""
        secret, hashed = None, ""
        wish = document.secret or ("keep" if await self._exists(client_id) else "generate")
        if wish == "generate":
            secret, hashed = await self.new_secret()
        async with self.change(actor) as opened:
            stored = await clients.put_client(opened, client_id, document, hashed, condition)
        return stored, secret if hashed and stored.value.secret_hash == hashed else None

    async def new_secret(self) -> tuple[str, str]:
        """A new secret, and its hash for the database."""
        secret = new_secret()
        return secret, await self._hash_secret(secret)

    async def _exists(self, client_id: str) -> bool:
        async with self.reading() as connection:
            try:
                await clients.get_client(connection, client_id)
            except NotFound:
                return False
            return True

    async def add_key(
        self, actor: Actor, client_id: str, document: KeyDocument, condition: Condition = ANY
    ) -> tuple[ClientKey, Stored[Client]]:
        async with self.change(actor) as opened:
            return await clients.add_key(opened, client_id, document, condition)

    async def revoke_key(self, actor: Actor, client_id: str, kid: str, condition: Condition = ANY) -> Stored[Client]:
        async with self.change(actor) as opened:
            return await clients.revoke_key(opened, client_id, kid, condition)

    async def put_adapter(
        self, actor: Actor, adapter_id: str, manifest: ManifestDocument, condition: Condition = ANY
    ) -> Stored[AdapterRecord]:
        # Compiling may take long: beside the event loop, and before the registry's lock is held.
        checked = await asyncio.to_thread(check_manifest, adapter_id, manifest, self.max_body_bytes)
        async with self.change(actor) as opened:
            return await adapters.put_adapter(opened, manifest, checked, condition)

    async def put_state(
        self, actor: Actor, path: str, document: StateDocument, condition: Condition = ANY
    ) -> Stored[Decision]:
        """Decides whether a service is active, disabled, in maintenance or retired."""
        async with self.change(actor) as opened:
            return await states.put_state(opened, path, document, condition)

    async def retire_adapter(
        self, actor: Actor, adapter_id: str, document: ReasonDocument, condition: Condition = ANY
    ) -> Stored[AdapterRecord]:
        async with self.change(actor) as opened:
            return await states.retire_adapter(opened, adapter_id, document, condition)

    async def beat(self, actor: Actor, adapter_id: str, heartbeat: HeartbeatDocument) -> AdapterProcess:
        """Notes a heartbeat and returns the process that sent it, with what is wrong with it."""
        return await heartbeats.beat(self._engine, actor, adapter_id, heartbeat)

    async def propose(self, actor: Actor, document: ProposalDocument) -> Stored[AgreementRecord]:
        async with self.change(actor) as opened:
            return await agreements.propose(opened, document)

    async def amend(
        self, actor: Actor, agreement_id: str, document: TermsDocument, condition: Condition = ANY
    ) -> Stored[AgreementRecord]:
        async with self.change(actor) as opened:
            return await agreements.amend(opened, agreement_id, document, condition)

    async def act(
        self,
        actor: Actor,
        agreement_id: str,
        action: life.Action,
        *,
        reason: str = "",
        legal_basis: str = "",
        condition: Condition = ANY,
    ) -> Stored[AgreementRecord]:
        """Accept, refuse, withdraw, suspend, resume or revoke."""
        async with self.change(actor) as opened:
            return await agreements.act(
                opened, agreement_id, action, reason=reason, legal_basis=legal_basis, condition=condition
            )
