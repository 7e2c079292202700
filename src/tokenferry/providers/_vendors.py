from functools import cache
from urllib.parse import urlsplit

from tokenferry.providers._declare import builtin_providers
from tokenferry.providers._presets import presets
from tokenferry.providers._provider import on_host


def is_builtin_vendor(url: str) -> bool:
    """Tell whether a URL's host belongs to a vendor of a built-in provider or a preset."""
    return on_host(url, vendor_hosts())


@cache
def vendor_hosts() -> tuple[str, ...]:
    """Give the hosts of the built-in vendors; their subdomains count, too. The first call reads files."""
    known = {host for preset in presets().values() for host in preset.hosts}
    builtin = [provider for provider in builtin_providers().values() if not provider.is_local]
    return tuple(sorted(known | {urlsplit(provider.base_url).hostname or "" for provider in builtin}))
