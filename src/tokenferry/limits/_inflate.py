import zlib
from collections.abc import Mapping
from typing import Final

_LARGEST: Final = 64 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_WINDOWS: Final[Mapping[str, tuple[int, ...]]] = {
    "gzip": (_GZIP,),
    "x-gzip": (_GZIP,),
    "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS),  # RFC 9110 8.4.1.2 means zlib; some servers send it bare
}


def readable(headers: Mapping[str, str], body: bytes) -> bytes | None:
    """Give the body, inflated to at most 64 KiB if it is compressed; None if it can't be inflated. It never raises.

    It knows gzip and deflate, and no combination of codings.
    """
    declared = ",".join(value for name, value in headers.items() if name.lower() == "content-encoding")
    codings = [coding for one in declared.split(",") if (coding := one.strip().lower()) not in {"", "identity"}]
    if not codings:
        return body
    windows = _WINDOWS.get(codings[0], ()) if len(codings) == 1 else ()
    for window in windows:
        try:
            return _inflated(body, window)
        except zlib.error:
            continue
    return None


def _inflated(body: bytes, window: int) -> bytes:
    """Inflate the beginning of one member or several (RFC 1952 2.2). Raises `zlib.error`."""
    found = b""
    while body and len(found) < _LARGEST:
        member = zlib.decompressobj(window)
        try:
            found += member.decompress(body, _LARGEST - len(found))
        except zlib.error:
            if not found:
                raise
            break  # trailing bytes that are not a member
        body = member.unused_data if window == _GZIP else b""
    return found
