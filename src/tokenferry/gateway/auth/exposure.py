"""What must hold before other machines may reach a gateway, and what it then says that it opens."""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from tokenferry.errors import ConfigError, PolicyRefused
from tokenferry.providers import is_loopback
from tokenferry.settings import PolicySettings, ServerSettings
from tokenferry.state import ClientKey, is_local_key


def is_remote(server: ServerSettings) -> bool:
    """Tell whether other machines could reach a gateway with these settings by itself."""
    return server.tcp and server.allow_remote and not is_loopback(server.host)


def check_reach(server: ServerSettings, policy: PolicySettings) -> None:
    """Raise `PolicyRefused` where what is for this machine alone would be served to others."""
    if policy.subscriptions != "own-use":
        return
    if is_remote(server):
        who = f"{server.host} is an address that other machines reach"
        cure = "listen on 127.0.0.1"
    elif server.trusted_proxies:
        who = "[server] trusted_proxies names proxies, which serve others"
        cure = "take them out"
    else:
        return
    raise PolicyRefused(
        f"{who}, and under the policy own-use a Claude subscription is used on this machine alone; {cure}, or first: "
        "tokenferry policy set claude-code-only"
    )


def remote_keys(keys: Iterable[ClientKey], now: float) -> list[ClientKey]:
    """The keys with which other machines may ask for inference. Raises `ConfigError` if there is none."""
    found = [key for key in keys if key.is_live(now) and key.role == "client" and not is_local_key(key)]
    if not found:
        raise ConfigError(
            "other machines need a client key other than local; create one first with: tokenferry key create NAME"
        )
    return found


def remote_lines(server: ServerSettings, keys: Sequence[ClientKey]) -> Iterator[str]:
    """What is opened, for whoever starts it."""
    names = ", ".join(key.name for key in keys)
    yield f"open to other machines: these keys use your accounts from everywhere that reaches {server.host}: {names}"
    yield "admin keys open the admin API and /metrics there, too; the key local is taken from this machine alone"
    if server.tls_cert is None:
        yield (
            "without TLS keys and messages can be read on the network; set tls_cert and tls_key, or let only a proxy "
            "with TLS reach it"
        )
    if not server.allowed_hosts and ip_address(server.host).is_unspecified:
        yield (
            "it answers to Host 127.0.0.1 and localhost only; add the names that other machines use to allowed_hosts "
            "under [server] in config.toml"
        )
