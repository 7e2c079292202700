"""Conditions for exposing a gateway to other machines, and the lines that say what is exposed."""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from tokenferry.errors import ConfigError, PolicyRefused
from tokenferry.providers import is_loopback
from tokenferry.settings import PolicySettings, ServerSettings
from tokenferry.state import ClientKey, is_local_key


def is_remote(server: ServerSettings) -> bool:
    """Whether other machines can reach a gateway with these settings directly."""
    return server.tcp and server.allow_remote and not is_loopback(server.host)


def check_reach(server: ServerSettings, policy: PolicySettings) -> None:
    """Raise `PolicyRefused` if a subscription for own use would be served to other machines."""
    if policy.subscriptions != "own-use":
        return
    if is_remote(server):
        reason = f"other machines can reach {server.host}"
        cure = "listen on 127.0.0.1"
    elif server.trusted_proxies:
        reason = "[server] trusted_proxies serve other machines"
        cure = "remove them"
    else:
        return
    raise PolicyRefused(
        f"{reason}, but the policy own-use allows a Claude subscription only on this machine; {cure}, or run: "
        "tokenferry policy set claude-code-only"
    )


def remote_keys(keys: Iterable[ClientKey], now: float) -> list[ClientKey]:
    """Give the keys with which other machines may use inference. Raises `ConfigError` without any."""
    found = [key for key in keys if key.is_live(now) and key.role == "client" and not is_local_key(key)]
    if not found:
        raise ConfigError(
            "other machines need a client key other than local; create one first with: tokenferry key create NAME"
        )
    return found


def remote_lines(server: ServerSettings, keys: Sequence[ClientKey]) -> Iterator[str]:
    """Give the lines that tell the operator what is exposed."""
    names = ", ".join(key.name for key in keys)
    yield f"open to other machines: whoever reaches {server.host} can use your accounts with these keys: {names}"
    yield "admin keys also open the admin API and /metrics; the key local is accepted only from this machine"
    if server.tls_cert is None:
        yield (
            "without TLS, keys and messages can be read on the network; set tls_cert and tls_key, or let only a proxy "
            "with TLS reach it"
        )
    if not server.allowed_hosts and ip_address(server.host).is_unspecified:
        yield (
            "it answers to Host 127.0.0.1 and localhost only; add the names that other machines use to allowed_hosts "
            "under [server] in config.toml"
        )
