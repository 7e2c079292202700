import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.harness import Outcome, begin, end, eventually, tokenferry
from pool import runs as j
from tokenferry.cli.explain import request as command
from tokenferry.gateway.telemetry import record as gateway
from tokenferry.gateway.telemetry.decision_log import decision_of
from tokenferry.pool import Target
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Caps, Home, PoolSettings
from tokenferry.state import Cooldown, Decision, Scope, State
from tokenferry.units import moment

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]


def test_a_request_of_a_running_gateway_is_explained_by_its_id(sandbox: Sandbox, login: Login, tmp_path: Path) -> None:
    issued = login()
    file = tmp_path / "port"
    process = begin("serve", "--port", "0", "--port-file", str(file))
    eventually(file.exists)
    key = tokenferry("token", "--gateway").out.strip()
    answer = httpx2.post(
        f"http://127.0.0.1:{file.read_text().strip()}/v1/messages",
        json={"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "ahoy"}]},
        headers={"x-api-key": key, "anthropic-version": "2023-06-01"},
        trust_env=False,
    )
    assert answer.status_code == 200
    request_id = answer.headers["x-tokenferry-request-id"]
    told = tokenferry("explain", "request", request_id)
    assert told.code == 0, told.err
    assert told.hides(key, issued["access_token"], issued["refresh_token"])
    lines = dict(line.split(maxsplit=1) for line in told.out.splitlines())
    assert lines["request"].startswith(f"{request_id} at 20")
    assert lines["client"] == "key local: POST /v1/messages, model claude-sonnet-4-5"
    assert lines["account"].startswith("work was chosen")
    assert " answered 200, which went to the client" in told.out
    assert lines["result"].startswith("200 after ")
    document = tokenferry("explain", "request", request_id, "--json").json
    assert (document["request_id"], document["account"], document["status"]) == (request_id, "work", 200)
    process.terminate()
    assert end(process).code == 0


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PATIENCE", 0.0)


def test_every_candidate_is_shown_with_its_reason(home: Home, inside: Inside, hasty: None) -> None:
    content = {
        "client": "laptop", "method": "POST", "path": "/v1/messages", "model": None, "provider": "anthropic",
        "rule": "it is the one", "candidates": ["alice", "bob", "carol"], "account": "bob",
        "passed_over": [{"account": "alice", "why": "needs a login\x1b[2J"}],
        "attempts": [{"account": "bob", "fingerprint": "0a1b2c3d", "status": None}],
        "status": 502, "error": "upstream_cut", "ms": 12, "message": "the answer was cut",
    }  # fmt: skip
    with State(home.state) as state:
        state.decisions.add([Decision("tf_1", 1_800_000_000, content)])
    assert inside("explain", "request", "tf_1").out.splitlines() == [
        "request   tf_1 at 2027-01-15T08:00:00Z",
        "client    key laptop: POST /v1/messages",
        "provider  anthropic: it is the one",
        "account   alice was skipped: needs a login\\x1b[2J",
        "account   bob was chosen: the first, in their order, that has a credential",
        "account   carol was not needed",
        "attempt   bob with 0a1b2c3d: no answer",
        "result    502 after 12 ms, upstream_cut",
        "message   the answer was cut",
    ]
    assert json.loads(inside("explain", "request", "tf_1", "--json").out)["candidates"] == ["alice", "bob", "carol"]


def test_without_an_id_the_last_20_are_listed_and_last_is_the_newest(home: Home, inside: Inside, hasty: None) -> None:
    assert inside("explain", "request").one_line().startswith("no request is on record yet")
    assert inside("explain", "request", "last").code == 4
    assert inside("explain", "request", "--json").json == []
    content = {"client": "laptop", "method": "POST", "path": "/v1/messages", "model": "m", "status": 200, "ms": 12}
    with State(home.state) as state:
        state.decisions.add(Decision(f"tf_{n}", 1_800_000_000 + n, content) for n in range(25))
    _, first, *_ = lines = inside("explain", "request").out.splitlines()
    assert len(lines) == 21
    assert first.split() == ["tf_24", "2027-01-15T08:00:24Z", "laptop", "m", "-", "200", "12"]
    assert [one["request_id"] for one in inside("explain", "request", "--json").json][::19] == ["tf_24", "tf_5"]
    assert inside("explain", "request", "last", "--json").json["request_id"] == "tf_24"
    assert inside("explain", "request", "last").out.startswith("request   tf_24 at")


def test_a_request_that_nothing_is_kept_of_is_an_unknown_name(home: Home, inside: Inside, hasty: None) -> None:
    outcome = inside("explain", "request", "tf_nothing")
    assert outcome.code == 4
    assert "nothing is kept of a request 'tf_nothing'" in outcome.one_line()


def test_the_whole_way_of_a_request_is_reported(home: Home, inside: Inside, hasty: None) -> None:
    rig = j.Rig(("alice", "bob", "carol", "dave"))
    limited = Cooldown(Scope("account", "alice"), "window", "answer", 1_800_009_000, "It is limited.", 1_800_000_000)
    rig.pool.cooldowns.note(limited)
    way = rig.run()
    for answer in (j.OVERLOADED, j.limited(), j.OK):
        rig.clock.pass_by(j.trying(way.next()).wait)
        way.fingerprint = "0a1b2c3d"
        j.reply(way, answer)
    way.close()
    decision = gateway.RoutingDecision(trace=way.trace)
    record = gateway.RequestRecord(
        "tf_1", "POST", "/v1/messages", 1_800_000_000.0, "laptop", account="carol", decision=decision
    )
    record.status, record.provider = 200, "one"
    with State(home.state) as state:
        state.decisions.add([decision_of(record)])
    lines = inside("explain", "request", "tf_1").out.splitlines()
    wait = way.trace.to_json()["steps"][2]["wait_ms"]
    overloaded = "The provider is overloaded; no account is at fault; once more in place"
    (noted,) = rig.pool.cooldowns.of("account", "bob")
    benched = f"account bob is in cooldown until {moment(noted.until)}; on to the next account"
    assert [line for line in lines if not line.startswith(("request", "client", "provider"))] == [
        "account   alice was skipped: It is limited, until 2027-01-15T10:30:00Z",
        "account   bob was tried",
        "account   carol was the last to be tried",
        "account   dave was not needed",
        "+0 ms     bob, model claude-sonnet-4-5: it is the first in order that can serve",
        f"+0 ms     bob with 0a1b2c3d answered 529: {overloaded}",
        f"+0 ms     waits {wait} ms: a back-off before the next attempt",
        f"+{wait} ms   bob, model claude-sonnet-4-5: once more",
        f"+{wait} ms   bob with 0a1b2c3d answered 429: The account has used up its window 5h; {benched}",
        f"+{wait} ms   carol, model claude-sonnet-4-5: it is the first in order that can serve",
        f"+{wait} ms   carol with 0a1b2c3d answered 200, which went to the client",
        "result    200 after 0 ms",
    ]
    told = inside("explain", "request", "tf_1", "--json").json
    assert [one["status"] for one in told["attempts"]] == [529, 429, 200]


def test_every_kind_of_step_is_said_in_words(home: Home, inside: Inside, hasty: None) -> None:
    rig = j.Rig(("alice", "bob", "carol"), settings=PoolSettings(caps=Caps(max_concurrency=1)))
    rig.group = j.group("one", "alice", "bob", "carol", kind="oauth")
    rig.targets = [Target(rig.group, "")]
    way = rig.run()
    way.next()
    way.unavailable("needs a login")
    way.next()
    j.reply(way, j.REFUSED)
    way.next()
    way.not_renewed("the refresh token is dead")
    way.next()
    way.unsent("connection refused")
    way.next()
    way.lost("no answer within 120 s")
    record = gateway.RequestRecord("tf_1", "POST", "/v1/messages", 1_800_000_000.0, "laptop")
    record.decision = gateway.RoutingDecision(trace=way.trace)
    way.close()
    with State(home.state) as state:
        state.decisions.add([decision_of(record)])
    out = inside("explain", "request", "tf_1").out
    for words in (
        "alice has no credential: needs a login; on to the next account",
        "bob answered 401: The credential was refused; once more with another token",
        "bob has no other token: the refresh token is dead; account bob is in cooldown until it is cleared;",
        "carol could not be reached: connection refused; once more in place",
        "carol was sent the request, and its answer was lost: no answer within 120 s; the client gets that",
    ):
        assert words in out, out
