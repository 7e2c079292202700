import hashlib
import json
import re
from collections import Counter, deque
from typing import Any

from tokenferry.sandbox._accounts import ACCOUNTS
from tokenferry.sandbox._http import Request
from tokenferry.sandbox._mint import fingerprint

_MOST_REQUESTS = 1000
_COUNTED = (
    "grants",
    "exchanges",
    "refreshes",
    "refreshes_failed",
    "reuses",
    "families_revoked",
    "revocations",
    "requests",
    "cancelled",
)
_SECRET = re.compile(r"(?:sk-ant-|gho_)[A-Za-z0-9_-]+")
_CREDENTIAL_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"}
)


class Counters:
    """Counts of what happened, and the last requests, with fingerprints instead of credentials."""

    def __init__(self) -> None:
        self._accounts: dict[str, Counter[str]] = {name: Counter() for name in ACCOUNTS}
        self._totals: Counter[str] = Counter()
        self._paths: Counter[str] = Counter()
        self._credentials: Counter[str] = Counter()
        self._requests: deque[dict[str, Any]] = deque(maxlen=_MOST_REQUESTS)
        self._in_flight = 0

    def count(self, account: str | None, what: str) -> None:
        self._totals[what] += 1
        if account is not None:
            self._accounts[account][what] += 1

    def begin(self, request: Request, account: str | None, now: float) -> dict[str, Any]:
        """Record a request; its `status` stays None until it is answered."""
        self._in_flight += 1
        self.count(account, "requests")
        self._paths[request.path] += 1
        credentials = sorted(map(fingerprint, set(request.presented)))
        self._credentials.update(credentials)
        entry = {
            "time": now,
            "method": request.method,
            "path": request.path,
            "query": "" if request.is_oauth else request.query,
            "headers": [[name, _shown(name, value)] for name, value in request.headers],
            "body_sha256": hashlib.sha256(request.body).hexdigest(),
            "body_length": len(request.body),
            "model": _model(request.body),
            "account": account,
            "credentials": credentials,
            "status": None,
        }
        self._requests.append(entry)
        return entry

    def end(self, account: str | None, *, cancelled: bool) -> None:
        self._in_flight -= 1
        if cancelled:
            self.count(account, "cancelled")

    def snapshot(self) -> dict[str, Any]:
        return {
            "totals": {what: self._totals[what] for what in _COUNTED},
            "accounts": {name: {what: counter[what] for what in _COUNTED} for name, counter in self._accounts.items()},
            "paths": dict(self._paths),
            "credentials": dict(self._credentials),
            "in_flight": self._in_flight,
        }

    def requests(self, last: int) -> list[dict[str, Any]]:
        return [dict(entry) for entry in list(self._requests)[-last:]] if last > 0 else []


def _model(body: bytes) -> str | None:
    """The `model` at the body's top level, if there is one."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    model = document.get("model") if isinstance(document, dict) else None
    return model if isinstance(model, str) else None


def _shown(name: str, value: str) -> str:
    if name not in _CREDENTIAL_HEADERS:
        return _SECRET.sub(lambda found: fingerprint(found[0]), value)
    scheme, space, secret = value.partition(" ")
    return f"{scheme} {fingerprint(secret.strip())}" if space else fingerprint(value)
