from typing import Final, Literal, TypeAlias

import httpx2

Answerer: TypeAlias = Literal["gateway", "other", "nobody"]

_TIMEOUT: Final = 1.0
_CONSTANT: Final = b'{"status":"ok"}'


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def who_answers(url: str) -> Answerer:
    """Say whether a gateway, something else or nobody listens there."""
    with httpx2.Client(trust_env=False, timeout=_TIMEOUT, follow_redirects=False) as client:
        try:
            answer = client.get(f"{url}/healthz")
        except httpx2.ConnectError:
            return "nobody"
        except httpx2.HTTPError:
            return "other"
    return "gateway" if answer.status_code == httpx2.codes.OK and answer.content == _CONSTANT else "other"
