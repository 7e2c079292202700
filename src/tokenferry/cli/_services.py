"""What requests get now: asked from a running gateway of this home, else worked out from files."""

import contextlib
from collections.abc import Mapping
from typing import Final

import msgspec

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.databases import has_state, open_state
from tokenferry.errors import TokenferryError
from tokenferry.readiness import RouteExplanation, RouteQuestion, ServiceStatus, services
from tokenferry.settings import Home
from tokenferry.state import ClientKey, GatewayRecord, read_local_key, running_gateway

_TIMEOUT: Final = 5.0


def services_now(home: Home, config: Config, broker: Broker, states: Mapping[str, str]) -> list[ServiceStatus]:
    """Ask the running gateway, which knows its own configuration and environment; without one, use the files."""
    with contextlib.suppress(TokenferryError, msgspec.MsgspecError):
        if (content := _ask(home, running_gateway(home), "/api/readiness")) is not None:
            return msgspec.json.decode(content, type=list[ServiceStatus])
    if has_state(home):
        with contextlib.suppress(TokenferryError), open_state(home) as state:  # `doctor` reports the fault
            return services(config, broker, state, states)
    return services(config, broker, None, states)


def ask_route(home: Home, question: RouteQuestion) -> tuple[GatewayRecord, RouteExplanation] | None:
    """What the running gateway would do with a request; None if none runs, or it can't answer."""
    with contextlib.suppress(TokenferryError, msgspec.MsgspecError):
        record = running_gateway(home)
        if (content := _ask(home, record, "/api/route", msgspec.json.encode(question))) is not None:
            return record, msgspec.json.decode(content, type=RouteExplanation)
    return None


def client_keys(home: Home) -> list[ClientKey] | None:
    """Every client key; None if they can't be read."""
    if not has_state(home):
        return []
    with contextlib.suppress(TokenferryError), open_state(home) as state:
        return state.keys.list()
    return None


def _ask(home: Home, record: GatewayRecord, path: str, content: bytes | None = None) -> bytes | None:
    """The answer's body; None from a gateway that is busy, of an earlier version, or rejects this machine's key."""
    import httpx2  # noqa: PLC0415  # 80 ms, needed only if a gateway runs

    key = read_local_key(home)
    if key is None or (record.url is None and record.socket is None):
        return None
    uds = None if record.socket is None else str(record.socket)
    # Any certificate will do: the lock on the record shows that it is a gateway of this home.
    transport = httpx2.HTTPTransport(uds=uds, verify=False)
    method, url = "GET" if content is None else "POST", f"{'http://gateway.local' if uds else record.url}{path}"
    headers = {"x-api-key": key.reveal(), "content-type": "application/json"}
    try:
        with httpx2.Client(transport=transport, trust_env=False, timeout=_TIMEOUT) as client:
            answer = client.request(method, url, headers=headers, content=content)
    except httpx2.HTTPError:
        return None
    return answer.content if answer.status_code == httpx2.codes.OK else None
