import mmap
import struct
import time
from collections.abc import Callable
from typing import Final
from zlib import crc32

_SLOT: Final = 1024 * 1024
_HEAD: Final = struct.Struct("<II")
_TRIES: Final = 3
_BEAT: Final = struct.Struct("<d")
_STILL: Final = 5.0


class SharedMemory:
    """Memory that forked processes share: each writes into a place of its own, and all may read.

    To be made before the fork. Nothing is locked: a reader knows by its checksum what was written half.
    """

    def __init__(self, places: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._clock = clock
        self._memory = mmap.mmap(-1, places * (_SLOT + _BEAT.size))
        self._beats = places * _SLOT

    def beat(self, place: int) -> tuple[int, ...]:
        """Note that the process of this place lives; give the places of those that do, in order.

        One that has never said so is about to begin. One that said so more than 5 s ago has ended.
        """
        now = self._clock()
        _BEAT.pack_into(self._memory, self._beats + place * _BEAT.size, now)
        last = [_BEAT.unpack_from(self._memory, self._beats + one * _BEAT.size)[0] for one in range(self._places)]
        return tuple(one for one, at in enumerate(last) if not at or now - at < _STILL)

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
