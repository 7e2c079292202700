"""A token is revoked while requests with it are under way: the 401s, early and late, make one refresh."""

import json
import sys
from collections import Counter

import pytest

from e2e.conftest import AddLogin
from e2e.parties import CHILDREN, SandboxProcess, begin, end, eventually

pytestmark = pytest.mark.e2e

PROCESSES = 4
CLIENTS = 5
EARLY = 10
HOUR = 3600
MESSAGES = "/v1/messages"


def statuses(sandbox: SandboxProcess) -> Counter[int | None]:
    return Counter(request["status"] for request in sandbox.requests(MESSAGES))


def test_twenty_late_refusals_make_one_refresh(sandbox: SandboxProcess, add_login: AddLogin) -> None:
    add_login("alice", expires_in=8 * HOUR)
    late = PROCESSES * CLIENTS - EARLY
    sandbox.fault("delay", path=MESSAGES, seconds=HOUR, times=EARLY)
    sandbox.fault("delay", path=MESSAGES, seconds=2 * HOUR, times=late, after=EARLY)
    arguments = [sys.executable, str(CHILDREN / "clients.py"), sandbox.url, "alice", str(CLIENTS)]
    processes = [begin(*arguments) for _ in range(PROCESSES)]
    eventually(lambda: statuses(sandbox)[None] == PROCESSES * CLIENTS, "all requests are under way")

    sandbox.revoke("alice", "access")
    sandbox.advance(HOUR)
    eventually(lambda: statuses(sandbox) == {401: EARLY, 200: EARLY, None: late}, "the early ones are sent again")
    assert sandbox.counters()["refreshes"] == 1
    sandbox.advance(HOUR)

    outcomes = [end(process) for process in processes]
    assert {(outcome.code, outcome.err) for outcome in outcomes} == {(0, "")}
    answers = [answer for outcome in outcomes for answer in json.loads(outcome.out)]
    assert answers == ["Hello from the sandbox, you said: hi ⛴"] * PROCESSES * CLIENTS
    assert statuses(sandbox) == {401: EARLY + late, 200: EARLY + late}
    counters = sandbox.counters()
    assert (counters["refreshes"], counters["reuses"], counters["refreshes_failed"]) == (1, 0, 0)
