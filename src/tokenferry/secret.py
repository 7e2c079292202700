"""`Secret`, a value that is never shown; `Fields` and `HiddenBytes`, which may hold secrets; a log filter."""

import hmac
import json
import math
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, final

from msgspec import Struct

if TYPE_CHECKING:
    import logging

__all__ = [
    "Concealing",
    "Fields",
    "HiddenBytes",
    "Redactor",
    "Secret",
    "decode_text",
    "fingerprint",
    "json_fault",
    "parse_json",
    "parse_object",
    "parse_secret",
]

_REDACTED: Final = "[redacted]"
_SHORTEST: Final = 4
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_QUOTES: Final = "\"'`"
# A value may end in "=", as base64 does; a name for it is followed by something else, or says what it names.
_LOOKS_SECRET: Final = re.compile(r"\b(sk-ant-[a-z]+[0-9]*-|tf[ka]_)[A-Za-z0-9_-]{8,}")
"""Also matches one that was typed in the wrong place."""
_ASSIGNMENT: Final = re.compile(r"(?:export\s+)?[A-Za-z_]\w*=[^=]|\w*(?:KEY|TOKEN|SECRET)=+\Z", re.ASCII)

_JSON_FAULTS: Final = {
    "Expecting property name": "a key in double quotes is missing, or a comma has nothing after it",
    "Illegal trailing comma": "a comma has nothing after it",
    "Expecting ':'": "a key has no colon after it",
    "Expecting ','": "a comma or a closing bracket is missing",
    "Expecting value": "a value is missing",
    "Extra data": "something follows the end of the value",
    "Unterminated string": "a text has no quote at its end",
    "Invalid control character": "a text holds a control character or the end of a line",
    "Invalid \\": "an escape in a text names no character",
}
"""What Python's parser says, and what a person reads instead."""


def fingerprint(value: str) -> str:
    """Eight hex digits of the value's sha256: the only part of a secret that is ever shown."""
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:8]


@final
class Secret:
    """A token or key: printable ASCII, shown only as `Secret(fingerprint)`, never pickled.

    Raises `ValueError` for an empty value, for one with blanks, control characters or non-ASCII, and for a value that
    isn't a string: it couldn't be sent in a header, and a line break in it would inject a header.
    """

    __slots__ = ("_digest", "_value", "fingerprint")

    def __init__(self, value: str) -> None:
        if fault := _fault(value):
            del self, value  # a traceback shows the locals of this frame
            raise ValueError(fault)
        self._value = value
        self._digest = sha256(value.encode("ascii")).digest()
        self.fingerprint = self._digest.hex()[:8]
        """Its only part that is ever shown."""

    def reveal(self) -> str:
        """Return the value itself. Call it where the bytes leave the process; don't store the result in a variable."""
        return self._value

    @property
    def sha256(self) -> str:
        """The full digest in hex, which records use instead of the token."""
        return self._digest.hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._digest, other._digest)

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"Secret({self.fingerprint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled; store it through a tokenferry store")

    __getstate__ = __reduce__

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "Secret":
        return self


def _fault(value: object) -> str | None:
    """Say why a value can't be a secret; None if it can."""
    if not isinstance(value, str):
        return "a secret must be a string"
    if not value:
        return "a secret must not be empty"
    if not all("!" <= character <= "~" for character in value):
        return "a secret must be printable ASCII without blanks or line breaks"
    return None


def parse_secret(text: str) -> Secret:
    """Read a key or token as a person or another program wrote it, without the blanks and line breaks around it.

    Raises `ValueError`, which never quotes the value, for what `Secret` refuses, and for a value with quotation marks
    or `NAME=` before it. No bearer token has either (RFC 6750 2.1).
    """
    value = Fields(text=text.strip().removeprefix("\ufeff").strip())  # one that isn't shown in a traceback
    del text
    if _ASSIGNMENT.match(value["text"]):
        raise ValueError("it begins with NAME=; give the value alone, without the name of a variable")
    if any(quote in value["text"] for quote in _QUOTES):
        raise ValueError("it holds a quotation mark; give the value alone, without quotes")
    return Secret(value["text"])


class HiddenBytes(bytes):
    """Bytes that may hold secrets: their repr, and so a traceback's locals, shows only their number."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__


class Concealing(Struct, frozen=True):
    """A value whose repr, and so a traceback's locals, leave out the fields in `hidden`: they may hold secrets."""

    hidden: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in self.hidden)
        return f"{type(self).__name__}({', '.join(shown)})"


class Fields(dict[str, Any]):
    """A JSON object whose values may be secrets: its repr, and so a traceback's locals, shows only the keys."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Fields({', '.join(sorted(map(str, self)))})"

    def without(self, *keys: str) -> "Fields":
        """Return a copy without these keys."""
        return Fields((key, value) for key, value in self.items() if key not in keys)


def without_secrets(text: str) -> str:
    """The text, with everything that looks like a key or token redacted."""
    return _LOOKS_SECRET.sub(r"\1[redacted]", text)


def parse_object(raw: bytes) -> Fields | None:
    """Read one JSON object; every object in it is a `Fields`. None for anything else."""
    value = parse_json(raw)
    return value if isinstance(value, Fields) else None


def json_fault(fault: json.JSONDecodeError) -> str:
    """Say what is wrong, and in which line. The text itself is never quoted."""
    reason = next((plain for words, plain in _JSON_FAULTS.items() if fault.msg.startswith(words)), "it can't be parsed")
    return f"line {fault.lineno}: {reason}"


def parse_json(raw: bytes) -> Any:
    """Read one JSON value; every object in it is a `Fields`. None for anything that isn't JSON.

    It raises no error, because a parser's error carries the text on which it failed. Infinity, NaN and numbers beyond
    a float's range become null: they must not make the tokens beside them unreadable, and can't be written again.
    """
    try:
        return json.loads(raw, object_hook=Fields, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return None


def decode_text(raw: bytes) -> str:
    """The text of another program's file: UTF-8, or UTF-16 if a byte order mark says so, without the mark.

    Bytes that can't be decoded become U+FFFD, which no key contains.
    """
    return raw.decode("utf-16" if raw[:2] in _UTF_16 else "utf-8-sig", "replace")


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


class Redactor:
    """A `logging` filter that replaces known secret values in messages, arguments and exception texts.

    It is the last line of defence: our code logs no secret, but a library may.
    """

    def __init__(self) -> None:
        self._values: tuple[str, ...] = ()
        """The longest first, because one may be the beginning of another."""

    def know(self, secret: Secret) -> None:
        """Redact this value from now on, unless it is so short that redacting it would make texts unreadable."""
        if len(secret.reveal()) < _SHORTEST:
            return
        self._values = tuple(sorted({*self._values, secret.reveal()}, key=len, reverse=True))

    def clean(self, text: str) -> str:
        """Return the text with every known value replaced."""
        for value in self._values:
            if value in text:
                text = text.replace(value, _REDACTED)
        return text

    def filter(self, record: "logging.LogRecord") -> bool:
        """Rewrite the record in place; it always passes."""
        if self._values:
            try:
                message = record.getMessage()
            except Exception:  # noqa: BLE001  # a malformed logging call, which logging itself would print unredacted
                record.msg, record.args = f"{record.msg} {record.args}", None
                message = record.msg
            cleaned = self.clean(message)
            if cleaned != message:
                record.msg, record.args = cleaned, None
            if record.exc_info and record.exc_info[1] is not None:
                import logging  # noqa: PLC0415  # only a record with a traceback needs it

                record.exc_text = self.clean(logging.Formatter().formatException(record.exc_info))
                record.exc_info = None
            elif record.exc_text:
                record.exc_text = self.clean(record.exc_text)
        return True
