"""What can go wrong with a call, before codes: `ngsp/client/errors.py` has the whole tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from ngsp.text import Language, Text


class Fault(NamedTuple):
    """One place in the document that was sent: a JSON pointer, and what is wrong there."""

    pointer: str
    detail: str


class CallError(Exception):
    """Base of everything that goes wrong with a call. Its text is for people and holds nothing of what was sent.

    `transaction`: the transaction's id, empty where none is known. `idempotency_key`: the key that the call went under,
    empty where there was none: the same call under the same key is never done twice. `retry_after_s`: how long to wait
    before a repeat, None where nothing was said.
    """

    text: ClassVar[Text] = Text("Lời gọi không thành công.", "The call failed.")

    def __init__(self, message: str = "", *, language: Language = "vi") -> None:
        super().__init__(message or self.text.in_(language))
        self.transaction = ""
        self.idempotency_key = ""
        self.retry_after_s: float | None = None

    def __str__(self) -> str:
        said = str(self.args[0])
        return f"{said} [{self.transaction}]" if self.transaction else said


class Unreachable(CallError):
    """No connection could be made: nothing was sent, so nothing was done."""

    text = Text("Không kết nối được tới nền tảng; chưa gửi gì.", "The bus cannot be reached; nothing was sent.")


class ConnectionLost(CallError):
    """It was sent, at least in part, and no whole answer came: whether anything was done is not known.

    A submission is repeated under its `idempotency_key`; the same holds in the next run of a program that kept it.
    """

    text = Text(
        "Mất kết nối trước khi có câu trả lời; chưa rõ yêu cầu đã được thực hiện hay chưa.",
        "The connection was lost before an answer came; whether anything was done is not known.",
    )


class NotUnderstood(CallError):
    """The answer is none of the bus's. `status`: its HTTP status."""

    text = Text("Câu trả lời không phải của nền tảng.", "The answer is not the bus's.")

    def __init__(self, status: int, *, language: Language = "vi") -> None:
        super().__init__(f"{self.text.in_(language)} (HTTP {status})")
        self.status = status


class StillUnderWay(CallError):
    """The caller's own deadline passed first. The submission goes on: wait for its `transaction` again.

    `state`: the last that was heard of it, empty where nothing was.
    """

    text = Text("Giao dịch chưa có kết quả.", "The transaction has no outcome yet.")

    def __init__(self, transaction: str, state: str, *, language: Language = "vi") -> None:
        super().__init__(language=language)
        self.transaction, self.state = transaction, state


class FromTheSandbox(CallError):
    """The answer is made from examples, and this client was not told to expect that (`sandbox=True`)."""

    text = Text(
        "Trả lời từ ví dụ, nhưng chương trình không gọi thử (sandbox).",
        "The answer is an example's, and the program did not say that it means the sandbox.",
    )


class TokenRefused(CallError):
    """The token endpoint refused. `error`: its code by RFC 6749 §5.2, e.g. `invalid_client`."""

    text = Text("Không được cấp mã truy cập", "No access token was given")

    def __init__(self, error: str, description: str, *, language: Language = "vi") -> None:
        super().__init__(f"{self.text.in_(language)}: {error}. {description}".strip())
        self.error = error


class WebhookError(CallError):
    """A request to a webhook that must not be taken (`ngsp/client/webhooks.py`)."""

    text = Text("Không nhận được yêu cầu gửi đến webhook.", "The request to the webhook is not to be taken.")


class WebhookIncomplete(WebhookError):
    """`webhook-id`, `webhook-timestamp` or `webhook-signature` is not there or not of its form."""

    text = Text("Thiếu hoặc sai tiêu đề webhook-….", "A webhook-… header is missing or malformed.")


class SignatureMismatch(WebhookError):
    """No signature is by a secret that is known here: it is not from the bus, or was changed on its way."""

    text = Text("Không chữ ký nào khớp với khóa bí mật.", "No signature fits a secret.")


class WebhookOutOfTime(WebhookError):
    """It was signed by the bus, but too long ago or in the future: played back by somebody, or a clock is off."""

    text = Text(
        "Yêu cầu được ký quá lâu, hoặc đồng hồ của một bên sai.",
        "The request was signed too long ago, or the clock of one side is off.",
    )


class NotAnEvent(WebhookError):
    """It is the bus's, and its body is no CloudEvent 1.0 in JSON."""

    text = Text("Nội dung không phải là CloudEvent.", "The body is no CloudEvent.")


class Problem(CallError):
    """The bus answered with a problem document (RFC 9457), kept whole as `document`."""

    known_as: ClassVar[str] = ""
    """The code of a leaf; `code` is that of the document."""

    def __init__(self, document: Mapping[str, Any], status: int) -> None:
        self.document = dict(document)
        self.status = status
        self.code = self._said("code")
        self.title = self._said("title")
        self.detail = self._said("detail")
        self.remedy = self._said("remedy")
        super().__init__(f"{self.code} ({status}): {self.title}. {self.detail} {self.remedy}".strip())

    def _said(self, name: str) -> str:
        value = self.document.get(name)
        return value if isinstance(value, str) else ""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Where the document that was sent is wrong; empty where the problem is of another kind."""
        found = self.document.get("errors")
        places = [place for place in found if isinstance(place, dict)] if isinstance(found, list) else []
        return tuple(Fault(str(place.get("pointer", "")), str(place.get("detail", ""))) for place in places)

    @property
    def provider_code(self) -> str:
        """The provider's own code for its no or its failure; empty where it gave none."""
        return self._said("provider_code")

    @property
    def outcome_unknown(self) -> bool:
        """True where it may have been done all the same."""
        return self.document.get("outcome_unknown") is True

    @property
    def safe_to_repeat(self) -> bool | None:
        """What the document says of a repeat; None where it says nothing."""
        said = self.document.get("safe_to_repeat")
        return said if isinstance(said, bool) else None
