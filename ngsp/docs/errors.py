"""`docs/errors.md` from the error tree."""

from __future__ import annotations

from http import HTTPStatus
from itertools import groupby

from ngsp.errors import ERRORS, NgspError

_HEAD = """# Mã lỗi / Error codes

<!-- Trang này được tạo từ ngsp/errors.py: python -m ngsp.docs / Made from ngsp/errors.py by that command. -->

Mỗi lỗi là một tài liệu `application/problem+json` (RFC 9457). `code` không bao giờ đổi; lời văn có thể đổi.
Tiếng Việt là mặc định; gửi `Accept-Language: en` để nhận tiếng Anh. `GET /errors/{code}` cho cùng nội dung.

Every error is an `application/problem+json` document (RFC 9457). `code` never changes; wording may.
Vietnamese is the default; send `Accept-Language: en` for English. `GET /errors/{code}` serves the same.

Thông báo của `POST /oauth2/token` theo RFC 6749 §5.2. / Errors of `POST /oauth2/token` follow RFC 6749 §5.2.

"""


def errors_page() -> str:
    """The whole page: an index, then each error under its status, in both languages."""
    errors = sorted(ERRORS.values(), key=lambda error: (error.status, error.code))
    parts = [_HEAD, "| HTTP | `code` | Tiếng Việt | English |\n|---|---|---|---|\n"]
    for error in errors:
        title = error.text().title
        parts.append(f"| {error.status} | [`{error.code}`](#{error.code}) | {title.vi} | {title.en} |\n")
    for status, group in groupby(errors, key=lambda error: error.status):
        parts.append(f"\n## {status} {HTTPStatus(status).phrase}\n")
        parts.extend(_section(error) for error in group)
    return "".join(parts)


def _section(error: type[NgspError]) -> str:
    text = error.text()
    return (
        f"\n### {error.code}\n\n"
        f"**{text.title.vi}**\n\n- Nguyên nhân: {text.cause.vi}\n- Cách khắc phục: {text.remedy.vi}\n\n"
        f"**{text.title.en}**\n\n- Cause: {text.cause.en}\n- What to do: {text.remedy.en}\n"
    )
