"""The variables of an HTTP response, as conditions name them.

Workers import this module, so it imports no client.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson
from msgspec import Struct

from waitd import exact_json
from waitd.core.connections.masking import SecretMask
from waitd.core.http.answer import Evaluation
from waitd.probes.cel.expressions import (
    BACKSLASH,
    JSON_NUL,
    CelEnvironment,
    Type,
    replace_json_nul,
    replace_nul,
)
from waitd.probes.cel.lenient_json import parse_leniently, text_codec

RESPONSE_ENV = CelEnvironment(
    {"status": Type.INT, "headers": Type.Map(Type.STRING, Type.STRING), "body": Type.DYN, "text": Type.STRING}
)


class HasCharset(Protocol):
    """A response whose charset is looked up only where a body needs it."""

    @property
    def charset(self) -> str | None:
        """The charset that the header Content-Type names."""


_UNREAD = object()


# A msgspec struct, because every poke makes one.
class ResponseVariables(Struct, eq=False):
    """The variables of a response, as conditions name them.

    `body` and `text` are decoded at first use.

    Attributes:
        headers: lower-case names; values of a repeated name are joined by commas.
        content: the decompressed body, or None if it was not read.
        charset_source: the charset, or the response that names it.
        mask: masks `raw`, `body` and `text`. The headers are masked by the caller.
        decided: the last decision and the conditions that made it.
    """

    status: int
    headers: dict[str, str]
    content: bytes | None
    charset_source: str | HasCharset | None
    mask: SecretMask | None = None
    decided: tuple[object, Evaluation] | None = None
    _body: Any = _UNREAD
    _text: str | None = None

    def __reduce__(self) -> tuple[Callable[..., "ResponseVariables"], tuple[Any, ...]]:
        """Pickles what was received; a worker decodes it itself."""
        return ResponseVariables, (self.status, self.headers, self.content, self.charset, self.mask)

    @property
    def charset(self) -> str | None:
        """The charset that the header names."""
        charset = self.charset_source
        return charset if charset is None or isinstance(charset, str) else charset.charset

    @property
    def raw(self) -> bytes | None:
        """The masked body."""
        if self.mask is None or self.content is None:
            return self.content
        return self.mask.mask_bytes(self.content)

    @property
    def body(self) -> Any:
        """The body as JSON; None if it is not JSON."""
        if self._body is _UNREAD:
            raw = self.content if self.mask is None else self.raw
            if raw is not None and BACKSLASH in raw and JSON_NUL in raw:
                raw = replace_json_nul(raw)
            self._body, is_json = decode_json(raw)
            if not is_json and self.content:
                self._body, _ = parse_leniently(self.content, self.charset, self.mask, exact=False)
        return self._body

    def payload(self) -> tuple[Any, bool]:
        """The body as JSON with exact integers, and whether it is JSON."""
        raw = self.raw
        if not raw or self.content is None:
            return None, False
        try:
            return exact_json.loads(raw), True
        except ValueError:
            return parse_leniently(self.content, self.charset, self.mask, exact=True)

    @property
    def text(self) -> str:
        """The body as text in the response's charset; bytes that cannot be decoded are replaced."""
        if self._text is None:
            raw = self.raw or b""
            codec = text_codec(raw, self.charset)
            text = raw.decode(codec, "replace")
            if self.mask is not None and codec != "utf-8":
                text = self.mask.mask_text(text)
            self._text = replace_nul(text)
        return self._text


def decode_json(raw: bytes | None) -> tuple[Any, bool]:
    """Returns the JSON value of a body, and whether it is JSON at all."""
    if not raw:
        return None, False
    try:
        return orjson.loads(raw), True
    except orjson.JSONDecodeError:
        return None, False


def lowercase_headers(items: Mapping[str, str], mask: SecretMask | None = None) -> dict[str, str]:
    """Returns headers, masked, as conditions name them. Bytes that are not UTF-8 are replaced."""
    headers: dict[str, str] = {}
    for name, value in items.items():
        key = name.lower()
        text = (
            value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        )
        text = replace_nul(text)
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers if mask is None else mask.mask_headers(headers)
