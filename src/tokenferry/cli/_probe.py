from typing import Final, Literal, TypeAlias

from tokenferry.config import Config
from tokenferry.errors import ConfigError
from tokenferry.settings import ServerSettings
from tokenferry.state import reachable_url

Answerer: TypeAlias = Literal["gateway", "other", "nothing"]

_TIMEOUT: Final = 1.0
_CONSTANT: Final = b'{"status":"ok"}'


def address_of(server: ServerSettings) -> str:
    """The gateway's address on this machine: a URL, or `unix:` and the path of its socket."""
    if not server.tcp:
        return f"unix:{server.uds}"
    return reachable_url(server.host, server.port, "http" if server.tls_cert is None else "https")


def gateway_url(config: Config) -> str:
    """The gateway's URL by the configuration. Raises `ConfigError` if the configuration has none."""
    if not config.server.port:
        raise ConfigError("[server] port = 0 lets the gateway take any free port; set a fixed one in config.toml")
    if not config.server.tcp:
        raise ConfigError("the gateway listens only on a Unix socket; set a port under [server] in config.toml")
    return address_of(config.server)


def who_answers(url: str) -> Answerer:
    """Whether a gateway, something else or nothing listens at a URL.

    No proof that the gateway is of this home: see `gateway_records`.
    """
    import httpx2  # noqa: PLC0415  # 80 ms, for commands that only name the address

    # Any certificate will do: the request asks for a constant, and sends nothing secret.
    with httpx2.Client(verify=False, trust_env=False, timeout=_TIMEOUT, follow_redirects=False) as client:
        try:
            answer = client.get(f"{url}/healthz")
        except httpx2.ConnectError:
            return "nothing"
        except httpx2.HTTPError:
            return "other"
    return "gateway" if answer.status_code == httpx2.codes.OK and answer.content == _CONSTANT else "other"
