"""An HTTP answer as it went over the wire, or as `curl -i` prints it."""

import re
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final

from tokenferry.errors import TokenferryError
from tokenferry.secret import Concealing

_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9](?:\.[0-9])? ([1-5][0-9]{2})(?: [^\r\n]*)?(?:\r?\n|\Z)")
_HEAD_END: Final = re.compile(rb"(?:\A|\n)\r?(?:\n|\Z)")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*(.*?)[ \t]*", re.DOTALL)
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_FIRST_FINAL: Final = 200


class RawAnswer(Concealing, frozen=True):
    """A parsed answer. Header names are lower-case; header values and body may hold secrets and are not shown."""

    hidden: ClassVar = ("headers", "body")

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def sent_at(self) -> float | None:
        """The time in its `date`, in seconds since 1970 UTC."""
        try:
            return parsedate_to_datetime(self.headers.get("date", "")).timestamp()
        except (ValueError, OverflowError):
            return None

    @property
    def encoding(self) -> str | None:
        """The compression of its body; None if the body is readable."""
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        return None if encoding in {"", "identity"} else encoding


def read_raw_answer(data: bytes) -> RawAnswer:
    """Parse an answer: the last one if proxies' or interim answers come first.

    Raises `TokenferryError` for anything else.
    """
    data = data.lstrip()
    while True:
        line = _STATUS_LINE.match(data)
        if line is None:
            raise TokenferryError(
                "this is not an HTTP response, which begins with a status line such as HTTP/1.1 429 Too Many Requests; "
                "give all of it, as curl -i prints it"
            )
        status = int(line[1])
        end = _HEAD_END.search(data, line.end() - 1)
        head, rest = (data[line.end() :], b"") if end is None else (data[line.end() : end.start()], data[end.end() :])
        if _STATUS_LINE.match(rest):
            data = rest
            continue
        if status < _FIRST_FINAL:
            raise TokenferryError(f"this is only an interim response ({status}); the final one is missing")
        headers = _headers(head)
        body = _unchunked(rest) if "chunked" in headers.get("transfer-encoding", "").lower() else rest
        if _is_text(body):
            headers.pop("content-encoding", None)  # curl has decompressed it
        return RawAnswer(status, headers, body)


def _headers(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    name = ""
    for number, line in enumerate(head.splitlines(), 2):
        if line[:1] in {b" ", b"\t"} and name:  # a folded header (RFC 9112, 5.2)
            headers[name] += " " + line.strip().decode("latin-1")
            continue
        found = _HEADER.fullmatch(line)
        if found is None:
            raise TokenferryError(f"line {number} of the response is not a header; a blank line ends the headers")
        name = found[1].decode("ascii").lower()
        value = found[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _unchunked(body: bytes) -> bytes:
    """The body without chunk framing, as far as it is complete; unchanged if the framing is already gone."""
    chunks: list[bytes] = []
    at = 0
    while found := _CHUNK.match(body, at):
        size = int(found[1], 16)
        chunks.append(body[found.end() : found.end() + size])
        if size == 0:
            break
        at = found.end() + size
        at += 2 if body[at : at + 2] == b"\r\n" else body[at : at + 1] == b"\n"
    return b"".join(chunks) if chunks else body


def _is_text(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
