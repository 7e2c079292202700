"""Decides to which provider a client's own credential may go: only to its vendor's."""

from collections.abc import Iterable
from functools import cache

from tokenferry.providers._declare import builtin_providers
from tokenferry.providers._presets import presets
from tokenferry.providers._provider import Provider


def may_pass_through(provider: Provider, credential: str) -> bool:
    """Return whether a client's own credential may go to this provider.

    The credential's prefix decides if its vendor is known by it. Others go to providers whose vendor has no known
    prefix; the configuration allows only one such vendor (`indistinct`). A provider on this machine gets any
    credential.
    """
    if not provider.passthrough or not provider.is_at_vendor:
        return False
    if provider.is_local:
        return True
    if provider.key_prefixes:
        return credential.startswith(provider.key_prefixes)
    return not credential.startswith(_known_prefixes())


def indistinct(providers: Iterable[Provider]) -> tuple[str, ...]:
    """Give the names of the providers whose vendors have credentials of the same form."""
    doubtful = [one for one in providers if one.passthrough and not one.key_prefixes and not one.is_local]
    if doubtful:
        _known_prefixes()  # read from files once, here, and not while a request waits
    vendors = {one.vendor_hosts or (one.base_url,) for one in doubtful}
    return tuple(one.name for one in doubtful) if len(vendors) > 1 else ()


@cache
def _known_prefixes() -> tuple[str, ...]:
    builtin = [one.key_prefixes for one in builtin_providers().values()]
    return tuple({prefix for known in (*builtin, *(one.prefixes for one in presets().values())) for prefix in known})
