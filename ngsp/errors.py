"""Every way a request can end badly: code, HTTP status, whose fault, cause and remedy in two languages.

    NgspError
    ├── CallerError                      the caller can mend it
    │   ├── MalformedRequest             400  malformed-http, malformed-json, malformed-header, malformed-parameter
    │   ├── Unauthenticated              401  unauthenticated
    │   ├── Forbidden                    403  access-denied, scope-missing, agreement-revoked
    │   ├── Missing                      404  not-found, no-example · 405 method-not-allowed · 406 not-acceptable
    │   ├── RequestTimeout               408  request-timeout
    │   ├── Conflict                     409  key-in-flight, version-conflict, state-conflict, message-replayed
    │   ├── Erased                       410  reply-erased, key-expired
    │   ├── PreconditionFailed           412  precondition-failed
    │   ├── TooLarge                     413  body-too-large · 414 uri-too-long · 431 headers-too-large
    │   ├── UnsupportedType              415  unsupported-type
    │   ├── Unprocessable                422  schema-mismatch, idempotency-mismatch, agreement-ambiguous,
    │   │                                     invalid-identifier, invalid-registration
    │   ├── KeyRequired                  428  key-required
    │   └── LimitReached                 429  quota-exhausted, too-many-requests, too-many-attempts
    ├── ProviderAnswer                   the provider's own no, not an error of the bus
    │   ├── RecordNotFound               404  record-not-found
    │   └── ProviderRefused              409  provider-refused
    ├── ProviderError                    the provider's system or adapter
    │   ├── ProviderFailed               502  provider-failed, provider-unavailable, bad-reply
    │   ├── InMaintenance                503  service-in-maintenance
    │   └── NoAnswer                     504  no-answer, expired, outcome-unknown
    └── BusError                         ours
        ├── Unavailable                  503  overloaded, log-unavailable, bus-unavailable, registry-stale, draining
        └── Internal                     500  internal

`code` never changes once published; texts may. The catalogue `ERRORS` (code → class) feeds `/errors/{code}` and
`docs/errors.md`. Texts live in `ngsp/error_texts.py`, one entry for each code, none missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ngsp.error_texts import TEXTS, ErrorText
from ngsp.text import Language, Text

ERRORS: dict[str, type[NgspError]] = {}


@dataclass(frozen=True, slots=True)
class Fault:
    """One place in the caller's document that is wrong: a JSON pointer (RFC 6901) and what is wrong with it."""

    pointer: str
    detail: Text


class NgspError(Exception):
    """Base of the tree. Raise a leaf; catch a family.

    `detail` says more than the title about this one case and never echoes input. `retry_after_s` becomes `Retry-After`.
    `members` are further members of the problem document (RFC 9457 §3.2). `reason` is for operators: it goes to the
    log, never to the caller.
    """

    code: ClassVar[str] = ""
    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: Text | None = None,
        *,
        faults: tuple[Fault, ...] = (),
        retry_after_s: float | None = None,
        members: dict[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(self.code if not reason else f"{self.code}: {reason}")
        self.detail = detail
        self.faults = faults
        self.retry_after_s = retry_after_s
        self.members = members or {}
        self.reason = reason or self.code
        self.transaction = ""
        """Set where the error belongs to a transaction: an earlier one's outcome, or the entry of this refusal."""
        self.sandbox = False
        """Set where a client of the sandbox is told it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("code"):
            if cls.code in ERRORS:
                raise TypeError(f"two errors have the code {cls.code}")
            ERRORS[cls.code] = cls

    @classmethod
    def text(cls) -> ErrorText:
        return TEXTS[cls.code]

    def problem(self, language: Language, instance: str | None = None) -> dict[str, Any]:
        """The RFC 9457 document, without transport."""
        text = self.text()
        document: dict[str, Any] = {
            "type": f"/errors/{self.code}",
            "title": text.title.in_(language),
            "status": self.status,
            "detail": (self.detail or text.cause).in_(language),
            "code": self.code,
            "remedy": text.remedy.in_(language),
        }
        if instance:
            document["instance"] = instance
        if self.faults:
            document["errors"] = [{"pointer": f.pointer, "detail": f.detail.in_(language)} for f in self.faults]
        document.update(self.members)
        return document


class CallerError(NgspError):
    """The caller can mend it."""


class MalformedRequest(CallerError):
    """400: what came is not a request of this interface."""

    status = 400


class MalformedHttp(MalformedRequest):
    code = "malformed-http"


class MalformedJson(MalformedRequest):
    code = "malformed-json"


class MalformedHeader(MalformedRequest):
    code = "malformed-header"


class MalformedParameter(MalformedRequest):
    code = "malformed-parameter"


class Unauthenticated(CallerError):
    """401: one answer for every reason a token is not good; the reason itself stays in the log."""

    code = "unauthenticated"
    status = 401


class Forbidden(CallerError):
    status = 403


class AccessDenied(Forbidden):
    """One and the same answer for an unknown service and for no agreement that fits, so that nobody can map the bus."""

    code = "access-denied"


class ScopeMissing(Forbidden):
    code = "scope-missing"


class AgreementRevoked(Forbidden):
    """A submission was waiting when its agreement ended: it is not delivered."""

    code = "agreement-revoked"


class Missing(CallerError):
    status = 404


class NotFound(Missing):
    code = "not-found"


class NoExample(Missing):
    """Of the sandbox: no example fits the request. Member `examples`: the titles of those there are."""

    code = "no-example"


class MethodNotAllowed(Missing):
    code = "method-not-allowed"
    status = 405


class NotAcceptable(Missing):
    code = "not-acceptable"
    status = 406


class RequestTimeout(CallerError):
    code = "request-timeout"
    status = 408


class Conflict(CallerError):
    status = 409


class KeyInFlight(Conflict):
    code = "key-in-flight"


class VersionConflict(Conflict):
    code = "version-conflict"


class StateConflict(Conflict):
    code = "state-conflict"


class MessageReplayed(Conflict):
    code = "message-replayed"


class Erased(CallerError):
    status = 410


class ReplyErased(Erased):
    code = "reply-erased"


class KeyExpired(Erased):
    code = "key-expired"


class PreconditionFailed(CallerError):
    code = "precondition-failed"
    status = 412


class TooLarge(CallerError):
    status = 413


class BodyTooLarge(TooLarge):
    code = "body-too-large"


class UriTooLong(TooLarge):
    code = "uri-too-long"
    status = 414


class HeadersTooLarge(TooLarge):
    code = "headers-too-large"
    status = 431


class UnsupportedType(CallerError):
    code = "unsupported-type"
    status = 415


class Unprocessable(CallerError):
    status = 422


class SchemaMismatch(Unprocessable):
    code = "schema-mismatch"


class IdempotencyMismatch(Unprocessable):
    code = "idempotency-mismatch"


class AgreementAmbiguous(Unprocessable):
    code = "agreement-ambiguous"


class InvalidIdentifier(Unprocessable):
    code = "invalid-identifier"


class InvalidRegistration(Unprocessable):
    code = "invalid-registration"


class KeyRequired(CallerError):
    code = "key-required"
    status = 428


class LimitReached(CallerError):
    """429: the caller's own limit. Always with `retry_after_s`."""

    status = 429


class QuotaExhausted(LimitReached):
    code = "quota-exhausted"


class TooManyRequests(LimitReached):
    code = "too-many-requests"


class TooManyAttempts(LimitReached):
    code = "too-many-attempts"


class ProviderAnswer(NgspError):
    """The provider's *no*, with the provider's own code in the member `provider_code`."""


class RecordNotFound(ProviderAnswer):
    code = "record-not-found"
    status = 404


class ProviderRefused(ProviderAnswer):
    code = "provider-refused"
    status = 409


class ProviderError(NgspError):
    """The provider's system or its adapter."""


class ProviderBroken(ProviderError):
    status = 502


class ProviderFailed(ProviderBroken):
    code = "provider-failed"


class ProviderUnavailable(ProviderBroken):
    """Down, or its breaker is open. Always with `retry_after_s`."""

    code = "provider-unavailable"


class BadReply(ProviderBroken):
    """The reply is off its schema or bound to another request; it is in quarantine."""

    code = "bad-reply"


class InMaintenance(ProviderError):
    """The service says until when its system is away (member `until`). Always with `retry_after_s`."""

    code = "service-in-maintenance"
    status = 503


class NoAnswer(ProviderError):
    """504. Members: `outcome_unknown` and `safe_to_repeat`, booleans."""

    code = "no-answer"
    status = 504


class Expired(NoAnswer):
    """The deadline passed before the work began: nothing was done."""

    code = "expired"


class OutcomeUnknown(NoAnswer):
    """The provider may or may not have done it; never repeated by itself."""

    code = "outcome-unknown"


class BusError(NgspError):
    """Ours."""


class Unavailable(BusError):
    """503: nothing was published. Always with `retry_after_s`."""

    status = 503


class Overloaded(Unavailable):
    code = "overloaded"


class LogUnavailable(Unavailable):
    code = "log-unavailable"


class BusUnavailable(Unavailable):
    code = "bus-unavailable"


class RegistryStale(Unavailable):
    code = "registry-stale"


class Draining(Unavailable):
    code = "draining"


class Internal(BusError):
    """A defect of ours: logged with its trace, told to nobody."""

    code = "internal"
    status = 500


if set(ERRORS) != set(TEXTS):
    raise TypeError(f"errors and texts differ: {sorted(set(ERRORS) ^ set(TEXTS))}")
