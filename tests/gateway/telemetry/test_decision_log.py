"""What is written down of each request's way to an account."""

import logging
import threading
from collections.abc import Iterable

import pytest

from gateway.rig import Origin, Source, api_key, json_answer, one_account, running_gate, token
from leaks import shows
from pool.runs import Run
from tokenferry.errors import NeedsLogin, StorageFailed
from tokenferry.gateway import DecisionLog
from tokenferry.gateway.telemetry.decision_log import decision_of
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.gateway.telemetry.record import RoutingDecision as Made
from tokenferry.pool import AccountGroup, Criteria, Pool, PoolAccount, Target, Trace
from tokenferry.providers import Provider
from tokenferry.settings import RouterSettings
from tokenferry.state import Decision
from tokenferry.stores import Account

REQUEST_ID = b"x-tokenferry-request-id"


class Written:
    """Where decisions are written to."""

    def __init__(self) -> None:
        self.batches: list[list[Decision]] = []
        self.fault: StorageFailed | None = None
        self.go = threading.Event()
        self.go.set()
        self.reached = threading.Event()

    def __call__(self, decisions: Iterable[Decision]) -> None:
        self.reached.set()
        self.go.wait(20)
        if self.fault is not None:
            raise self.fault
        self.batches.append(list(decisions))

    @property
    def all(self) -> list[Decision]:
        return [one for batch in self.batches for one in batch]


class Kept(DecisionLog):
    """Keeps what would be written."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.decisions: list[Decision] = []

    def add(self, *records: RequestRecord) -> None:
        self.decisions += map(decision_of, records)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def written() -> Written:
    return Written()


def record(number: int) -> RequestRecord:
    return RequestRecord(f"tf_{number}", "POST", "/v1/messages", 1_700_000_000.5, status=200, decision=Made())


def trace(*outcomes: str) -> Trace:
    run = Run(
        Pool(),
        (Target(AccountGroup("fake", (PoolAccount("alice", "fake"), PoolAccount("bob", "fake"))), ""),),
        Criteria(),
    )
    for outcome in outcomes:
        run.next()
        if outcome == "served":
            run.served(())
        elif outcome == "unavailable":
            run.unavailable("it needs a login")
        else:
            run.answered(401, (), b"")
    run.close()
    return run.trace


def test_they_are_written_in_order_in_batches_on_another_thread(written: Written) -> None:
    with DecisionLog(written, interval=0.001, ordinary=500) as log:
        for number in range(500):
            log.add(record(number))
    assert [one.request_id for one in written.all] == [f"tf_{number}" for number in range(500)]
    assert written.all[0].at == 1_700_000_000
    assert len(written.batches) < 500


def test_of_very_many_those_that_explain_something_are_written_and_the_latest_others(written: Written) -> None:
    written.go.clear()
    with DecisionLog(written, interval=10.0, ordinary=3) as log:
        log.add(record(0))
        assert written.reached.wait(20)  # the first one of all is written at once
        for number in range(1, 100):
            one = record(number)
            assert one.decision is not None
            if number == 10:
                one.error = "overloaded_error"
            if number == 20:
                one.decision.trace = trace("unavailable", "served")
            if number == 30:
                one.decision.trace = trace("answered", "served")
            if number == 97:
                one.decision.trace = trace("served")
            log.add(one)
        written.go.set()
    assert [one.request_id for one in written.all] == ["tf_0", "tf_10", "tf_20", "tf_30", "tf_97", "tf_98", "tf_99"]


def test_nothing_is_written_of_nothing(written: Written) -> None:
    with DecisionLog(written):
        pass
    assert written.batches == []


def test_a_slow_disk_delays_no_request_and_costs_bounded_memory(written: Written) -> None:
    written.go.clear()
    with DecisionLog(written, limit=10, interval=0.0) as log:
        log.add(record(0))
        assert written.reached.wait(20)
        for number in range(1, 50):
            one = record(number)
            one.error = "overloaded_error"
            log.add(one)
        written.go.set()
    assert [one.request_id for one in written.all] == [f"tf_{number}" for number in range(11)]


def test_what_can_not_be_written_is_given_up_with_one_warning(
    written: Written, caplog: pytest.LogCaptureFixture
) -> None:
    written.fault = StorageFailed("state.db is full")
    with DecisionLog(written, limit=1, interval=0.0) as log, caplog.at_level(logging.WARNING):
        for number in range(3):
            written.reached.clear()
            log.add(record(number))
            assert written.reached.wait(20)
    assert written.all == []
    assert caplog.text.count("decisions are not written down: state.db is full") == 1


@pytest.mark.anyio
async def test_a_request_tells_who_was_passed_over_who_was_chosen_and_what_was_answered(
    two_accounts: Source, kept: Kept
) -> None:
    two_accounts.results["alice"] = [NeedsLogin("account 'alice' needs a login")]
    async with running_gate(two_accounts, decision_log=kept) as gate:
        reply = await gate.call(body=b'{"model":"claude-sonnet-4-5"}')
        await gate.records.last()
    (decision,) = kept.decisions
    assert decision.request_id.encode() == reply.all(REQUEST_ID)[0]
    content = dict(decision.content)
    assert isinstance(content.pop("ms"), int)
    steps = content.pop("steps")
    assert [step["what"] for step in steps] == ["tried", "unavailable", "tried", "served"]
    assert [step["account"] for step in steps] == ["alice", "alice", "bob", "bob"]
    assert content == {
        "client": "one-off",
        "method": "POST",
        "path": "/v1/messages",
        "model": "claude-sonnet-4-5",
        "upstream_model": None,
        "provider": "fake",
        "account": "bob",
        "session": None,
        "status": 200,
        "error": None,
        "rule": "it is the default provider",
        "candidates": ["alice", "bob"],
        "hops": [{"provider": "fake", "model": "claude-sonnet-4-5"}],
        "passed_over": [{"account": "alice", "why": "account 'alice' needs a login", "cause": None, "until": None}],
        "attempts": [{"account": "bob", "fingerprint": api_key("bob").secret.fingerprint, "status": 200}],
        "message": None,
    }


@pytest.mark.anyio
async def test_each_attempt_is_recorded_with_the_fingerprint_of_the_credential(origin: Origin, kept: Kept) -> None:
    origin.scripts = [json_answer(status=401), json_answer()]
    source = one_account(origin.url, token("old"), token("new"))
    async with running_gate(source, decision_log=kept, settings=RouterSettings(account="alice")) as gate:
        assert (await gate.call()).status == 200
        await gate.records.last()
    (decision,) = kept.decisions
    assert decision.content["rule"] == "[router] account names the account"
    assert decision.content["attempts"] == [
        {"account": "alice", "fingerprint": token("old").secret.fingerprint, "status": 401},
        {"account": "alice", "fingerprint": token("new").secret.fingerprint, "status": 200},
    ]
    assert not shows(str(decision.content), token("old").secret.reveal(), token("new").secret.reveal())


@pytest.mark.anyio
async def test_a_request_that_reached_no_account_records_the_clients_error(source: Source, kept: Kept) -> None:
    source.known = []
    async with running_gate(source, decision_log=kept) as gate:
        assert (await gate.call()).status == 503
        await gate.records.last()
    (decision,) = kept.decisions
    assert "there is no account yet" in decision.content["message"]
    assert (decision.content["status"], decision.content["error"]) == (503, "no_account")
    assert decision.content["attempts"] == []
    assert "candidates" not in decision.content


@pytest.mark.anyio
async def test_an_upstream_that_gives_no_answer_is_an_attempt_without_a_status(closed_port: int, kept: Kept) -> None:
    source = one_account(f"http://127.0.0.1:{closed_port}")
    async with running_gate(source, decision_log=kept) as gate:
        assert (await gate.call()).status == 502
        await gate.records.last()
    (decision,) = kept.decisions
    assert {one["status"] for one in decision.content["attempts"]} == {None}
    assert "no provider can be reached" in decision.content["message"]


@pytest.mark.anyio
async def test_what_is_led_to_no_account_is_not_kept(source: Source, kept: Kept) -> None:
    """A flood of such requests must not wash out what somebody may ask for."""
    async with running_gate(source, decision_log=kept) as gate:
        await gate.call(headers=[(b"x-api-key", b"wrong")])
        await gate.call(b"/healthz", method=b"GET")
        await gate.call(b"/nowhere")
        await gate.records.last(3)
    assert kept.decisions == []


@pytest.mark.anyio
async def test_the_order_of_providers_is_recorded_if_it_decided(origin: Origin, kept: Kept) -> None:
    source = Source(
        [Provider("first", "fake", origin.url), Provider("second", "fake", origin.url)],
        [Account("alice", "first", "api-key"), Account("bob", "second", "api-key")],
    )
    source.results |= {"alice": [api_key()], "bob": [api_key("bob")]}
    settings = RouterSettings(providers=("second", "first"))
    async with running_gate(source, decision_log=kept, settings=settings) as gate:
        await gate.call()
        await gate.records.last()
    (decision,) = kept.decisions
    assert decision.content["provider"] == "second"
    assert decision.content["rule"] == "they are those of [router] providers that have accounts, in its order"
