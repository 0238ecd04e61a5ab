"""`ngsp registry apply`: brings the registry to what documents declare, all of them or none, and says what differs.

Nothing is taken away by leaving it out: keys are revoked, agreements ended and members closed by what says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ngsp.errors import InvalidRegistration, NgspError, StateConflict
from ngsp.registry import adapters, agreements, clients, compatible_routes, members, states, subscriptions
from ngsp.registry.agreement_records import AgreementRecord, find_by_reference
from ngsp.registry.change import Actor, Change, Stored, find
from ngsp.registry.declared import (
    Declaration,
    DeclaredAdapter,
    DeclaredAgreement,
    DeclaredClient,
    DeclaredMember,
    DeclaredRoute,
    DeclaredService,
    DeclaredSubscription,
)
from ngsp.registry.documents import (
    ClientDocument,
    MemberDocument,
    ProposalDocument,
    RouteDocument,
    StateDocument,
    TermsDocument,
)
from ngsp.registry.manifest_documents import ManifestDocument
from ngsp.registry.manifests import CheckedService, check_manifest
from ngsp.registry.secret_files import SecretFiles
from ngsp.registry.store import Registry
from ngsp.registry.subscription_documents import SubscriptionDocument
from ngsp.registry.tables import clients as clients_table
from ngsp.text import Text

APPLIER = Actor("ngsp-registry-apply", "", frozenset(("operator",)))

Action = Literal["create", "update", "keep", "conflict"]


@dataclass(frozen=True, slots=True)
class Difference:
    """What applying one declaration does. `changes`: what → (before, after); `problems`: why it cannot be done."""

    declaration: Declaration
    action: Action
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    problems: tuple[Text, ...] = ()
    secret: str | None = None


async def apply(registry: Registry, declarations: Sequence[Declaration], dry_run: bool) -> list[Difference]:
    """In one transaction: where one declaration conflicts, none is applied. A dry run does it all and takes it back."""
    checked: dict[int, list[CheckedService] | Difference] = {}
    for index, declaration in enumerate(declarations):
        if isinstance(declaration.document, DeclaredAdapter):
            checked[index] = await asyncio.to_thread(_checked, declaration, registry.max_body_bytes)
    differences: list[Difference] = []
    with SecretFiles() as files:
        async with registry.change(APPLIER, dry_run=dry_run) as change:
            for index, declaration in enumerate(declarations):
                step = _Step(registry, change, declaration, files, dry_run)
                differences.append(await step.run(checked.get(index)))
            if any(difference.action == "conflict" for difference in differences):
                change.touched = False  # and so the transaction is taken back
                return differences
        files.keep()
    return differences


def _checked(declaration: Declaration, max_body_bytes: int) -> list[CheckedService] | Difference:
    document = declaration.document
    assert isinstance(document, DeclaredAdapter)
    try:
        return check_manifest(document.id, document, max_body_bytes)
    except InvalidRegistration as error:
        return _conflict(declaration, error)


def _conflict(declaration: Declaration, error: NgspError) -> Difference:
    text = error.text()
    cause = error.detail or text.cause
    problems = [
        Text(
            vi=f"dòng {declaration.source.line_of(fault.pointer)}, {fault.pointer or '/'}: {fault.detail.vi}",
            en=f"line {declaration.source.line_of(fault.pointer)}, {fault.pointer or '/'}: {fault.detail.en}",
        )
        for fault in error.faults
    ]
    first = Text(vi=f"{cause.vi} {text.remedy.vi}", en=f"{cause.en} {text.remedy.en}")
    return Difference(declaration, "conflict", problems=(first, *problems))


@dataclass(slots=True)
class _Step:
    """One declaration inside the transaction, under a savepoint of its own."""

    registry: Registry
    change: Change
    declaration: Declaration
    files: SecretFiles
    dry_run: bool

    async def run(self, checked: list[CheckedService] | Difference | None) -> Difference:
        if isinstance(checked, Difference):
            return checked
        document = self.declaration.document
        try:
            async with self.change.connection.begin_nested():
                if isinstance(document, DeclaredMember):
                    return await self._member(document)
                if isinstance(document, DeclaredClient):
                    return await self._client(document)
                if isinstance(document, DeclaredAdapter):
                    return await self._adapter(document, checked or [])
                if isinstance(document, DeclaredRoute):
                    return await self._route(document)
                if isinstance(document, DeclaredService):
                    return await self._service(document)
                if isinstance(document, DeclaredSubscription):
                    return await self._subscription(document)
                return await self._agreement(document)
        except NgspError as error:
            return _conflict(self.declaration, error)

    def _done(self, created: bool, changes: dict[str, tuple[Any, Any]], secret: str | None = None) -> Difference:
        action: Action = "create" if created else "update" if changes else "keep"
        return Difference(self.declaration, action, changes, secret=secret)

    async def _member(self, document: DeclaredMember) -> Difference:
        body = _narrowed(MemberDocument, document)
        stored = await members.put_member(self.change, document.code, body)
        return self._done(stored.created, dict(stored.changes))

    async def _service(self, document: DeclaredService) -> Difference:
        if document.until is not None and document.until <= self.change.now:
            return self._done(created=False, changes={})
        stored = await states.put_state(self.change, document.service, _narrowed(StateDocument, document))
        return self._done(stored.created, dict(stored.changes))

    async def _client(self, document: DeclaredClient) -> Difference:
        row = await find(self.change.connection, clients_table, id=document.id)
        wanted = document.secret is not None or document.secret_file is not None
        needs_secret = wanted and (row is None or not row["secret_hash"])
        body = ClientDocument(
            member=document.member,
            name=document.name,
            scopes=document.scopes,
            active=document.active,
            secret="generate" if needs_secret else "keep",
            sandbox=document.sandbox,
        )
        secret, hashed = ("", "-") if self.dry_run or not needs_secret else await self.registry.new_secret()
        stored = await clients.put_client(self.change, document.id, body, hashed)
        changes = {name: pair for name, pair in stored.changes.items() if name != "tokens_valid_from"}
        for key in document.keys:
            changes |= await self._key(document.id, key)
        if not needs_secret:
            return self._done(stored.created, changes)
        if document.secret_file is not None:
            self.files.write(self.declaration.source.file.parent / document.secret_file, secret, self.dry_run)
            return self._done(stored.created, changes)
        return self._done(stored.created, changes, secret or None)

    async def _key(self, client_id: str, document: Any) -> dict[str, tuple[Any, Any]]:
        before = await clients.get_client(self.change.connection, client_id)
        key, after = await clients.add_key(self.change, client_id, document)
        return {} if after.row_version == before.row_version else {f"keys.{key.kid}": (None, key.alg)}

    async def _adapter(self, document: DeclaredAdapter, checked: list[CheckedService]) -> Difference:
        stored = await adapters.put_adapter(self.change, _narrowed(ManifestDocument, document), checked)
        return self._done(stored.created, dict(stored.changes))

    async def _route(self, document: DeclaredRoute) -> Difference:
        body = _narrowed(RouteDocument, document)
        stored = await compatible_routes.put_route(self.change, document.id, body)
        changes = dict(stored.changes)
        before, after = changes.pop("terms", ({}, {}))
        changed = [name for name in (before or {}) | after if (before or {}).get(name) != after.get(name)]
        return self._done(
            stored.created, changes | {name: ((before or {}).get(name), after.get(name)) for name in changed}
        )

    async def _subscription(self, document: DeclaredSubscription) -> Difference:
        body, given = _narrowed(SubscriptionDocument, document), self.registry.given
        stored, secret = await subscriptions.put_subscription(self.change, document.id, body, given)
        if secret is None:
            return self._done(stored.created, dict(stored.changes))
        if document.secret_file is not None:
            self.files.write(self.declaration.source.file.parent / document.secret_file, secret, self.dry_run)
            return self._done(stored.created, dict(stored.changes))
        return self._done(stored.created, dict(stored.changes), None if self.dry_run else secret)

    async def _agreement(self, document: DeclaredAgreement) -> Difference:
        found = await find_by_reference(self.change.connection, document.consumer, document.reference)
        if found is None:
            stored = await agreements.propose(self.change, _narrowed(ProposalDocument, document))
            return await self._answer(document, stored, created=True, changes=_terms_changes({}, document))
        record = found.value
        if record.service != document.service:
            raise StateConflict(
                Text(
                    f"Thỏa thuận mang số này dành cho dịch vụ {record.service}.",
                    f"The agreement of this reference is for the service {record.service}.",
                ),
                reason="another service under the same reference",
            )
        newest, governing = record.versions[-1], record.governing
        state = newest.state(self.change.now)
        if governing.state(self.change.now) in ("accepted", "expired") and _same(governing.row, document):
            return self._done(False, {})
        if state in ("refused", "withdrawn") and _same(newest.row, document):
            raise StateConflict(
                Text(
                    f"Đề nghị này đã ở trạng thái «{state}»: hãy đổi nội dung đề nghị.",
                    f"This very proposal is {state}: change its terms.",
                ),
                reason=f"the declared terms were {state}",
            )
        if state == "proposed":
            if not _same(newest.row, document):
                raise StateConflict(
                    Text(
                        "Đang có một đề nghị khác chưa được trả lời: hãy trả lời hoặc rút đề nghị đó trước.",
                        "Another proposal is still open: answer or withdraw it first.",
                    ),
                    reason="another proposal is open",
                )
            return await self._answer(document, found, created=False, changes={})
        changes = _terms_changes(governing.row, document)
        stored = await agreements.amend(self.change, record.id, _narrowed(TermsDocument, document))
        return await self._answer(document, stored, created=False, changes=changes)

    async def _answer(
        self,
        document: DeclaredAgreement,
        stored: Stored[AgreementRecord],
        *,
        created: bool,
        changes: dict[str, tuple[Any, Any]],
    ) -> Difference:
        if document.accepted:
            await agreements.act(self.change, stored.value.id, "accept")
            changes = {**changes, "state": (None if created else "proposed", "accepted")}
        return self._done(created, changes)


def _narrowed(model: Any, document: Any) -> Any:
    """The REST document inside a declared one; what was left out there is left out here."""
    names = model.model_fields.keys() & document.model_fields_set
    return model.model_construct(
        _fields_set=set(names), **{name: getattr(document, name) for name in model.model_fields}
    )


_TERMS = ("purposes", "legal_basis", "fields", "quota_per_minute", "quota_per_day", "valid_to", "consent_required")


def _terms_changes(row: Any, document: DeclaredAgreement) -> dict[str, tuple[Any, Any]]:
    """Term → (before, after). The order of purposes and fields means nothing; `valid_from` only where it is given."""
    names: Iterable[str] = (*_TERMS, "valid_from") if document.valid_from is not None else _TERMS
    changes = {}
    for name in names:
        before, after = row.get(name), getattr(document, name)
        same = sorted(before) == sorted(after) if name in ("purposes", "fields") and before else before == after
        if not same:
            changes[name] = (before, after)
    return changes


def _same(row: Any, document: DeclaredAgreement) -> bool:
    return not _terms_changes(row, document)
