import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

from tokenferry.rates import GcraBucket

logger = logging.getLogger(__name__)

BAD_KEYS_PER_MINUTE: Final = 200
_PER_SECOND: Final = BAD_KEYS_PER_MINUTE / 60
_MOST_ADDRESSES: Final = 4096
_NETWORK_BITS: Final = 64
_UNIX: Final = "a Unix socket"


class _Address(GcraBucket):
    __slots__ = ("is_logged",)

    def __init__(self) -> None:
        super().__init__(_PER_SECOND, BAD_KEYS_PER_MINUTE)
        self.is_logged = False


class BadKeys:
    """Limits the bad keys of each address to 200 at once and 200 per minute.

    All of 127.0.0.0/8 counts as one address, and so do an IPv6 /64 and all Unix sockets. The 4,096 most recent
    addresses are remembered. `clock` gives monotonic seconds. It belongs to one event loop.
    """

    def __init__(self, *, most_addresses: int = _MOST_ADDRESSES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most_addresses
        self._clock = clock
        self._buckets: OrderedDict[str, _Address] = OrderedDict()

    def count(self, address: str | None) -> int:
        """Count a bad key. Give 0, or the seconds to wait if the address has presented too many."""
        name = _name(address)
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Address()
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        if not (seconds := bucket.delay(now, 1)):
            bucket.is_logged = bucket.is_logged and bucket.full_at > now
            bucket.charge(now, 1)
            return 0
        if not bucket.is_logged:
            logger.warning("more than %d bad client keys a minute come from %s", BAD_KEYS_PER_MINUTE, name)
            bucket.is_logged = True
        return math.ceil(seconds)


def _name(address: str | None) -> str:
    """Give the name under which an address is counted; None is a Unix socket."""
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
