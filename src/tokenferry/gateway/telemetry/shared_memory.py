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
    """Memory shared by forked processes. Each writes to its own place, and all may read.

    Create it before the fork. It has no locks: a reader detects an incomplete write by its checksum.
    """

    def __init__(self, places: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._clock = clock
        self._memory = mmap.mmap(-1, places * (_SLOT + _BEAT.size))
        self._beats = places * _SLOT

    def beat(self, place: int) -> tuple[int, ...]:
        """Mark this place's process as alive, and give the places of live processes in order.

        A place without any mark counts as starting, and one with a mark older than 5 s as ended.
        """
        now = self._clock()
        _BEAT.pack_into(self._memory, self._beats + place * _BEAT.size, now)
        last = [_BEAT.unpack_from(self._memory, self._beats + one * _BEAT.size)[0] for one in range(self._places)]
        return tuple(one for one, at in enumerate(last) if not at or now - at < _STILL)

    def put(self, place: int, content: bytes) -> bool:
        """Replace the place's content. Gives False for one larger than 1 MiB."""
        if len(content) > _SLOT - _HEAD.size:
            return False
        start = place * _SLOT
        self._memory[start + _HEAD.size : start + _HEAD.size + len(content)] = content
        self._memory[start : start + _HEAD.size] = _HEAD.pack(len(content), crc32(content))
        return True

    def others(self, place: int) -> dict[int, bytes]:
        """Give the other processes' contents, by place."""
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
