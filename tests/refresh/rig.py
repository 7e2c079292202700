"""A broker whose clock and token endpoint the test holds in its hands, and one whose endpoint is the sandbox."""

import errno
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tokenferry.accounts import machine_id
from tokenferry.broker import Broker
from tokenferry.credentials import Credential, OAuthToken
from tokenferry.oauth import HttpOutcome, OAuthEndpoints, TokenRequest, TokenResponse
from tokenferry.providers import Provider, builtin_providers
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Disk, Document, FileStore, Store

NAME = "work"
START = 1_800_000_000.0
LIFETIME = 28_800
MACHINE = machine_id()
PATIENCE = 30.0
"""Seconds after which a test that waits has failed; no test takes so long."""

PROVIDERS: Mapping[str, Provider] = {
    "fake": Provider(
        "fake",
        "fake",
        "https://auth.invalid",
        auth_type="oauth",
        oauth=OAuthEndpoints(token_endpoint="https://auth.invalid/token"),
    )
}


def value(credential: Credential) -> str:
    return credential.secret.reveal()


def wait_for(condition: Callable[[], object]) -> None:
    """For what another thread or process makes true without telling."""
    pause = threading.Event()
    for _ in range(int(PATIENCE * 200)):
        if condition():
            return
        pause.wait(0.005)
    pytest.fail("it did not happen")


class Clock:
    """Seconds since 1970 UTC, as the test has it."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


def answer(status: int, headers: Mapping[str, str] | None = None, **fields: Any) -> TokenResponse:
    return TokenResponse(status, headers or {}, json.dumps(fields).encode())


class Endpoint:
    """A token endpoint, to be the engine's `send`. It answers what `script` says, else with the next tokens.

    `entered` tells that a request arrived; while `gate` is clear none is answered.
    """

    def __init__(self) -> None:
        self.presented: list[str] = []
        self.script: deque[HttpOutcome] = deque()
        self.extra: dict[str, Any] = {"expires_in": LIFETIME}
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self._guard = threading.Lock()

    @property
    def requests(self) -> int:
        return len(self.presented)

    def __call__(
        self, request: TokenRequest, timeout: float, sending: Callable[[], None] = lambda: None
    ) -> HttpOutcome:
        sending()
        with self._guard:
            self.presented.append(json.loads(request.body)["refresh_token"])
            step = self.script.popleft() if self.script else None
            number = self.requests
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        return step or answer(200, access_token=f"access-{number}", refresh_token=f"refresh-{number}", **self.extra)


def token(left: float | None = -10.0, number: int = 0, **changes: Any) -> OAuthToken:
    """An access token with so many seconds left, and its refresh token."""
    given: dict[str, Any] = {
        "secret": Secret(f"access-{number}"),
        "refresh": Secret(f"refresh-{number}"),
        "expires_at": None if left is None else int(START + left),
        "lifetime": LIFETIME,
    }
    return OAuthToken(**(given | changes))


def document(credential: OAuthToken, name: str = NAME, **changes: Any) -> Document:
    given: dict[str, Any] = {"provider": "fake", "kind": "oauth"}
    return Document(Account(name, **(given | changes)), credential, machine=MACHINE)


def put(store: Store, new: Document) -> None:
    """Make it the current document, whatever was there."""
    name = new.account.name
    with store.exclusive(name, PATIENCE):
        old = store.read(name).generation if name in store.names() else None
        store.swap(name, old, new)


class Rig:
    """One home, one clock, one endpoint, and brokers over them."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.store = FileStore(home)
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.brokers: list[Broker] = []

    def broker(self, **changes: Any) -> Broker:
        given: dict[str, Any] = {
            "home": self.home,
            "providers": PROVIDERS,
            "now": self.clock,
            "send": self.endpoint,
        }
        self.brokers.append(Broker(**(given | changes)))
        return self.brokers[-1]

    def put(self, credential: OAuthToken, name: str = NAME, **changes: Any) -> None:
        put(self.store, document(credential, name, **changes))

    def close(self) -> None:
        self.endpoint.gate.set()
        for broker in self.brokers:
            assert broker.drain(PATIENCE)


def sandbox_providers(sandbox: Sandbox) -> dict[str, Provider]:
    known = builtin_providers()
    return {**known, "sandbox": replace(known["sandbox"], base_url=sandbox.url)}


def sandbox_login(store: Store, sandbox: Sandbox, account: str = "alice", *, expires_in: int = -3600) -> OAuthToken:
    """Log the sandbox's account in under its own name."""
    bundle = sandbox.issue(account, expires_in=expires_in)
    credential = OAuthToken(
        Secret(bundle["access_token"]), Secret(bundle["refresh_token"]), expires_at=int(bundle["expires_at"])
    )
    put(store, document(credential, account, provider="sandbox"))
    return credential


class FullDisk(Disk):
    """Refuses new files while it is full; what exists can be written in place."""

    def __init__(self) -> None:
        self.is_full = False
        self.refused = threading.Event()

    def create(self, path: Path) -> int:
        if self.is_full:
            self.refused.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().create(path)
