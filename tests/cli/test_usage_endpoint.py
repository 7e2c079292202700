"""A benched login and its provider's usage endpoint, with the parts that a gateway is made of."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tokenferry.broker import Broker
from tokenferry.config import load
from tokenferry.refresh import send
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Scope, State, UsageProbe

Login = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("is_limited", [True, False])
def test_what_the_sandbox_says_of_a_login_counts(
    sandbox: Sandbox, login: Login, home: Home, *, is_limited: bool
) -> None:
    login("work", of="alice")
    limits = {"5h": {"status": "rejected", "reset_in": 5000}} if is_limited else None
    sandbox.settings("alice", limits=limits)
    broker = Broker.from_home(home, load(home.config))
    now = time.time()
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", "work"), "window", "answer", int(now) + 9000, "It is limited."))
        probe = UsageProbe(
            state.cooldowns,
            providers=lambda: broker.providers,
            accounts=broker.accounts,
            resolve=broker.resolve,
            send=send,
            now=lambda: now + 400,
            start=lambda work: work(),
        )
        probe.look(state.cooldowns.list())
        found = [(one.source, one.until) for one in state.cooldowns.list()]
    assert [one["status"] for one in sandbox.requests() if one["path"] == "/api/oauth/usage"] == [200]
    if not is_limited:
        assert found == []
        return
    ((source, until),) = found
    assert source == "usage"
    assert until is not None
    assert now + 5000 <= until <= now + 5040
