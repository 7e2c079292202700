import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

logger = logging.getLogger(__name__)

BAD_KEYS_PER_MINUTE: Final = 200
_PER_SECOND: Final = BAD_KEYS_PER_MINUTE / 60
_MOST_ADDRESSES: Final = 4096
_NETWORK_BITS: Final = 64
_UNIX: Final = "a Unix socket"


class _Bucket:
    """What is left of one address, as of `at` on the clock."""

    __slots__ = ("at", "is_told", "left")

    def __init__(self, at: float) -> None:
        self.at = at
        self.left = float(BAD_KEYS_PER_MINUTE)
        self.is_told = False


class BadKeys:
    """Counts the bad keys that each address presents: a token bucket of 200, which fills up within a minute.

    All of 127.0.0.0/8 is one address, and so are an IPv6 /64 and all who come over Unix sockets. 4096 addresses are
    remembered; the one that was heard of least recently is forgotten first. `clock` gives seconds, and never goes back.
    It belongs to one event loop.
    """

    def __init__(self, *, most_addresses: int = _MOST_ADDRESSES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most_addresses
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def count(self, address: str | None) -> int:
        """Take note of a bad key. Gives 0, or for how many seconds the address has presented too many."""
        name = _name(address)
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        bucket.left = min(bucket.left + (now - bucket.at) * _PER_SECOND, float(BAD_KEYS_PER_MINUTE))
        bucket.at = now
        if bucket.left >= 1:
            bucket.is_told = bucket.is_told and bucket.left < BAD_KEYS_PER_MINUTE
            bucket.left -= 1
            return 0
        if not bucket.is_told:
            logger.warning("more than %d bad client keys a minute come from %s", BAD_KEYS_PER_MINUTE, name)
            bucket.is_told = True
        return math.ceil((1 - bucket.left) / _PER_SECOND)


def _name(address: str | None) -> str:
    """What is counted as one: None is a Unix socket."""
    if address is None:
        return _UNIX
    try:
        known = ip_address(address)
    except ValueError:
        return _UNIX
    if isinstance(known, IPv6Address) and known.ipv4_mapped is not None:
        known = known.ipv4_mapped
    if known.is_loopback:
        return "this machine"
    if isinstance(known, IPv6Address):
        return f"{IPv6Address(int(known) >> _NETWORK_BITS << _NETWORK_BITS)}/{_NETWORK_BITS}"
    return str(known)
