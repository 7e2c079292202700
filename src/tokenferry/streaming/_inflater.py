import zlib
from typing import Final

_GZIP: Final = 16 + zlib.MAX_WBITS
_WINDOWS: Final = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": zlib.MAX_WBITS}
_LARGEST: Final = 8 * 1024 * 1024


class Inflater:
    """Inflates a body piece by piece, whose upstream compresses though it was asked not to."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._member = zlib.decompressobj(window)

    def feed(self, chunk: bytes) -> bytes:
        """Inflate a chunk. Raises `ValueError` if it can't, and above 8 MiB for one chunk."""
        found: list[bytes] = []
        room = _LARGEST
        while chunk:
            if self._member.eof:  # gzip may have several members (RFC 1952 2.2)
                self._member = zlib.decompressobj(self._window)
            try:
                found.append(self._member.decompress(chunk, room))
            except zlib.error as fault:
                raise ValueError(str(fault)) from None
            room -= len(found[-1])
            if self._member.unconsumed_tail or not room:
                raise ValueError(f"a piece of it inflates to more than {_LARGEST:,} bytes")
            chunk = self._member.unused_data
        return b"".join(found)


def inflater_of(coding: bytes) -> Inflater | None:
    """Give an inflater for a `content-encoding`; None for one that it doesn't know, or none."""
    window = _WINDOWS.get(coding.strip().lower())
    return None if window is None else Inflater(window)
