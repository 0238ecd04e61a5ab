"""Every way a call can end badly, as its caller sees it. Catch a family, or one code.

    CallError
    ├── Unreachable          no connection: nothing was sent
    ├── ConnectionLost       sent, but no answer came: whether anything was done is not known
    ├── NotUnderstood        an answer that is not the bus's: a proxy in between, or another server
    ├── StillUnderWay        the caller's own deadline passed while a submission was on its way
    ├── FromTheSandbox       an example's answer, where none was expected
    ├── TokenRefused         the token endpoint's no (RFC 6749 §5.2)
    ├── WebhookError         a request to a webhook that must not be taken: WebhookIncomplete, SignatureMismatch, …
    └── Problem              the bus answered, by RFC 9457
        ├── CallerError          the caller can mend it: MalformedRequest, Unauthenticated, Forbidden, Missing, …
        ├── ProviderAnswer       the provider's own no: RecordNotFound, ProviderRefused
        ├── ProviderError        the provider's system or adapter: ProviderBroken, InMaintenance, NoAnswer
        └── BusError             the bus itself: Unavailable, Internal

Below `Problem` stand the families and codes of `ngsp/errors.py`, under the same names (a test compares them): what each
code means and what to do about it is in `docs/errors.md`. A code that this version does not know comes as its family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ngsp.client.failures import CallError as CallError
from ngsp.client.failures import ConnectionLost as ConnectionLost
from ngsp.client.failures import Fault as Fault
from ngsp.client.failures import FromTheSandbox as FromTheSandbox
from ngsp.client.failures import NotAnEvent as NotAnEvent
from ngsp.client.failures import NotUnderstood as NotUnderstood
from ngsp.client.failures import Problem as Problem
from ngsp.client.failures import SignatureMismatch as SignatureMismatch
from ngsp.client.failures import StillUnderWay as StillUnderWay
from ngsp.client.failures import TokenRefused as TokenRefused
from ngsp.client.failures import Unreachable as Unreachable
from ngsp.client.failures import WebhookError as WebhookError
from ngsp.client.failures import WebhookIncomplete as WebhookIncomplete
from ngsp.client.failures import WebhookOutOfTime as WebhookOutOfTime


class CallerError(Problem):
    """The caller can mend it."""


class MalformedRequest(CallerError):
    """400: not a request of this interface."""


class MalformedHttp(MalformedRequest):
    known_as = "malformed-http"


class MalformedJson(MalformedRequest):
    known_as = "malformed-json"


class MalformedHeader(MalformedRequest):
    known_as = "malformed-header"


class MalformedParameter(MalformedRequest):
    known_as = "malformed-parameter"


class Unauthenticated(CallerError):
    """401, with a fresh token too."""

    known_as = "unauthenticated"


class Forbidden(CallerError):
    """403."""


class AccessDenied(Forbidden):
    known_as = "access-denied"


class ScopeMissing(Forbidden):
    known_as = "scope-missing"


class AgreementRevoked(Forbidden):
    known_as = "agreement-revoked"


class Missing(CallerError):
    """404, 405, 406: nothing here, or not in this way."""


class NotFound(Missing):
    known_as = "not-found"


class NoExample(Missing):
    """Of the sandbox: `document["examples"]` names those there are."""

    known_as = "no-example"


class MethodNotAllowed(Missing):
    known_as = "method-not-allowed"


class NotAcceptable(Missing):
    known_as = "not-acceptable"


class RequestTimeout(CallerError):
    known_as = "request-timeout"


class Conflict(CallerError):
    """409."""


class KeyInFlight(Conflict):
    known_as = "key-in-flight"


class VersionConflict(Conflict):
    known_as = "version-conflict"


class StateConflict(Conflict):
    known_as = "state-conflict"


class MessageReplayed(Conflict):
    known_as = "message-replayed"


class Erased(CallerError):
    """410: it was done, long ago; it is never done again under that key."""


class ReplyErased(Erased):
    known_as = "reply-erased"


class KeyExpired(Erased):
    known_as = "key-expired"


class PreconditionFailed(CallerError):
    known_as = "precondition-failed"


class TooLarge(CallerError):
    """413, 414, 431."""


class BodyTooLarge(TooLarge):
    known_as = "body-too-large"


class UriTooLong(TooLarge):
    known_as = "uri-too-long"


class HeadersTooLarge(TooLarge):
    known_as = "headers-too-large"


class UnsupportedType(CallerError):
    known_as = "unsupported-type"


class Unprocessable(CallerError):
    """422: `faults` says where."""


class SchemaMismatch(Unprocessable):
    known_as = "schema-mismatch"


class IdempotencyMismatch(Unprocessable):
    known_as = "idempotency-mismatch"


class AgreementAmbiguous(Unprocessable):
    known_as = "agreement-ambiguous"


class InvalidIdentifier(Unprocessable):
    known_as = "invalid-identifier"


class InvalidRegistration(Unprocessable):
    known_as = "invalid-registration"


class KeyRequired(CallerError):
    """428: it is a submission. Send it with `submit`."""

    known_as = "key-required"


class LimitReached(CallerError):
    """429: a limit of the caller's own; nothing was done."""


class QuotaExhausted(LimitReached):
    known_as = "quota-exhausted"


class TooManyRequests(LimitReached):
    known_as = "too-many-requests"


class TooManyAttempts(LimitReached):
    known_as = "too-many-attempts"


class ProviderAnswer(Problem):
    """The provider's own *no*, with its `provider_code`: nothing is broken."""


class RecordNotFound(ProviderAnswer):
    known_as = "record-not-found"


class ProviderRefused(ProviderAnswer):
    known_as = "provider-refused"


class ProviderError(Problem):
    """The provider's system or its adapter."""


class ProviderBroken(ProviderError):
    """502."""


class ProviderFailed(ProviderBroken):
    known_as = "provider-failed"


class ProviderUnavailable(ProviderBroken):
    known_as = "provider-unavailable"


class BadReply(ProviderBroken):
    known_as = "bad-reply"


class InMaintenance(ProviderError):
    """503: the service is in maintenance, announced; nothing was sent. `retry_after_s` says until when."""

    known_as = "service-in-maintenance"


class NoAnswer(ProviderError):
    """504: see `outcome_unknown` and `safe_to_repeat`."""

    known_as = "no-answer"


class Expired(NoAnswer):
    known_as = "expired"


class OutcomeUnknown(NoAnswer):
    known_as = "outcome-unknown"


class BusError(Problem):
    """The bus itself."""


class Unavailable(BusError):
    """503: nothing was published, unless `outcome_unknown`."""


class Overloaded(Unavailable):
    known_as = "overloaded"


class LogUnavailable(Unavailable):
    known_as = "log-unavailable"


class BusUnavailable(Unavailable):
    known_as = "bus-unavailable"


class RegistryStale(Unavailable):
    known_as = "registry-stale"


class Draining(Unavailable):
    known_as = "draining"


class Internal(BusError):
    known_as = "internal"


def _below(family: type[Problem]) -> Iterator[type[Problem]]:
    for kind in family.__subclasses__():
        yield kind
        yield from _below(kind)


PROBLEMS: dict[str, type[Problem]] = {kind.known_as: kind for kind in _below(Problem) if kind.known_as}
"""Code → class."""

_FAMILIES: dict[int, type[Problem]] = {
    400: MalformedRequest,
    401: Unauthenticated,
    403: Forbidden,
    409: Conflict,
    410: Erased,
    422: Unprocessable,
    429: LimitReached,
    502: ProviderBroken,
    503: Unavailable,
    504: ProviderError,
}


def problem_of(document: Mapping[str, Any], status: int) -> Problem:
    """The error for a problem document; its family where the code is one of a newer gateway's."""
    kind = PROBLEMS.get(str(document.get("code", "")))
    if kind is None:
        kind = _FAMILIES.get(status) or (CallerError if 400 <= status < 500 else BusError)
    return kind(document, status)
