import mmap
import struct
from typing import Final
from zlib import crc32

_SLOT: Final = 1024 * 1024
_HEAD: Final = struct.Struct("<II")
_TRIES: Final = 3


class SharedMemory:
    """Memory that forked processes share: each writes into a place of its own, and all may read.

    To be made before the fork. Nothing is locked: a reader knows by its checksum what was written half.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._memory = mmap.mmap(-1, places * _SLOT)

    def put(self, place: int, content: bytes) -> bool:
        """Put the content in place of what was there; tells whether it is small enough (1 MiB)."""
        if len(content) > _SLOT - _HEAD.size:
            return False
        start = place * _SLOT
        self._memory[start + _HEAD.size : start + _HEAD.size + len(content)] = content
        self._memory[start : start + _HEAD.size] = _HEAD.pack(len(content), crc32(content))
        return True

    def others(self, place: int) -> dict[int, bytes]:
        """What the others have put, by place."""
        found = {other: self._get(other) for other in range(self._places) if other != place}
        return {other: content for other, content in found.items() if content}

    def _get(self, place: int) -> bytes:
        start = place * _SLOT
        for _ in range(_TRIES):
            size, checksum = _HEAD.unpack(self._memory[start : start + _HEAD.size])
            content = self._memory[start + _HEAD.size : start + _HEAD.size + size]
            if crc32(content) == checksum:
                return content
        return b""
