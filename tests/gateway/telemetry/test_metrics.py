"""`GET /metrics`, asked for as Prometheus does."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.rig import Gate, Origin, Seen, Source, error_of, json_answer, one_account, running_gate
from tokenferry.errors import StorageFailed
from tokenferry.gateway import GatewayStatistics, Metrics, SharedMemory, UpstreamClients
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.ledger import BudgetState, CostCounters, LedgerEntry, cost_route
from tokenferry.ledger._ledger import priced
from tokenferry.prices import PriceTable
from tokenferry.secret import Secret
from tokenferry.settings import MetricsSettings, PriceSettings
from tokenferry.state import ClientKey, Cooldown, Scope
from tokenferry.streaming import TokenUsage

pytestmark = pytest.mark.anyio

ADMIN = "tfa_admin"


class Ring:
    """An inference key and an admin key."""

    def verify(self, presented: str) -> ClientKey | None:
        if presented not in {"tfk_plain", ADMIN}:
            return None
        secret = Secret(presented)
        return ClientKey("key_1", "root", "admin" if presented == ADMIN else "client", 0, secret.fingerprint)

    def expired(self, presented: str) -> ClientKey | None:
        return None

    def is_away(self) -> bool:
        return False

    def is_sole(self) -> bool:
        return True


@pytest.fixture
async def gate(source: Source) -> AsyncIterator[Gate]:
    async with running_gate(source, keys=Ring(), key="tfk_plain") as gate:
        yield gate


def samples(text: str) -> dict[tuple[str, ...], float]:
    """By name and labels."""
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(gate: Gate, accept: bytes = b"text/plain;version=0.0.4") -> dict[tuple[str, ...], float]:
    reply = await gate.call(b"/metrics", [(b"x-api-key", ADMIN.encode()), (b"accept", accept)], method=b"GET")
    assert reply.status == 200
    assert reply.all(b"content-type")[0].startswith(b"text/plain; version=0.0.4")
    return samples(reply.body.decode())


async def test_served_requests_are_counted(gate: Gate, origin: Origin) -> None:
    answer = b'{"usage":{"input_tokens":5,"output_tokens":7,"cache_read_input_tokens":0}}'
    origin.scripts = [json_answer(answer), json_answer(b'{"error":{"type":"overloaded_error"}}', status=529)]
    await gate.call(body=b'{"model":"claude-sonnet-4-5"}')
    await gate.call(body=b'{"model":"claude-sonnet-4-5"}')
    await gate.call(headers=[(b"x-api-key", b"wrong")])
    found = await scraped(gate)
    route = ("account=alice", "model=claude-sonnet", "provider=fake")
    assert found["tokenferry_requests_total", *route, "status=200"] == 1
    assert found["tokenferry_requests_total", *route, "status=529"] == 1
    assert found["tokenferry_requests_total", "account=", "model=", "provider=", "status=401"] == 1
    assert found["tokenferry_errors_total", "error=overloaded_error", "provider=fake"] == 1
    assert found["tokenferry_errors_total", "error=authentication_error", "provider="] == 1
    assert found["tokenferry_request_seconds_count", *route] == 2
    assert found["tokenferry_request_seconds_bucket", "account=alice", "le=+Inf", *route[1:]] == 2
    assert found["tokenferry_first_byte_seconds_count", *route] == 2
    assert found["tokenferry_tokens_total", "account=alice", "kind=input", *route[1:]] == 5
    assert found["tokenferry_tokens_total", "account=alice", "kind=output", *route[1:]] == 7
    assert found["tokenferry_body_bytes_total", "direction=in"] == 2 * len(b'{"model":"claude-sonnet-4-5"}')
    assert found["tokenferry_refreshes_total", "account=alice", "outcome=refreshed"] == 3
    assert found["tokenferry_refreshes_total", "account=alice", "outcome=refresh_failed"] == 1
    assert found["tokenferry_forced_refreshes_total", "account=alice", "outcome=refreshed"] == 2
    assert found["tokenferry_forced_refreshes_total", "account=alice", "outcome=capped"] == 1
    assert found["tokenferry_accounts", "state=fresh"] == 1
    assert found["tokenferry_upstream_connections", "state=open", f"upstream={origin.url}"] >= 0
    assert found["tokenferry_upstream_connections_opened_total", f"upstream={origin.url}"] >= 1
    assert found["tokenferry_requests_in_flight",] == 1


async def test_a_stream_under_way_is_counted(gate: Gate, origin: Origin) -> None:
    async def endless(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: a\ndata: 1\n\n")
        await reader.read()

    origin.scripts = [endless]
    async with gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        await reader.readuntil(b"data: 1\n\n")
        assert (await scraped(gate))["tokenferry_streams_in_flight",] == 1
    await gate.records.last(2)
    assert (await scraped(gate))["tokenferry_streams_in_flight",] == 0


async def test_only_a_key_that_may_read_metrics_is_answered(gate: Gate, origin: Origin) -> None:
    nobody = await gate.call(b"/metrics", [(b"x-api-key", b"")], method=b"GET")
    client = await gate.call(b"/metrics", method=b"GET")
    posted = await gate.call(b"/metrics", [(b"x-api-key", ADMIN.encode())])
    assert (nobody.status, client.status, posted.status) == (401, 403, 405)
    for reply in (nobody, client):
        assert "tokenferry key create NAME --role metrics" in error_of(reply.body)["message"]
        assert b"alice" not in reply.body


async def test_the_open_format_of_metrics_can_be_asked_for(gate: Gate) -> None:
    accept = b"application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    headers = [(b"authorization", b"Bearer " + ADMIN.encode()), (b"accept", accept)]
    reply = await gate.call(b"/metrics", headers, method=b"GET")
    assert reply.all(b"content-type")[0].startswith(b"application/openmetrics-text")
    assert reply.body.endswith(b"# EOF\n")


async def test_nothing_of_a_client_s_invention_is_a_label(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(b"{}", status=404)]
    for number in range(20):
        await gate.call(b"/v1/messages?%d" % number, body=b'{"model":"claude-%d%s"}' % (number, b"x" * (number + 1)))
        await gate.call(b"/nowhere/%d" % number)
    found = await scraped(gate)
    assert len([one for one in found if one[0] == "tokenferry_requests_total"]) == 2
    assert not any("xxx" in label or "nowhere" in label for labels in found for label in labels)


async def test_skipped_accounts_are_counted() -> None:
    ends = int(time.time()) + 3600
    noted = [
        Cooldown(Scope("account", "alice"), "window", "answer", ends),
        Cooldown(Scope("account", "alice", "claude-opus"), "window", "answer", ends),
        Cooldown(Scope("organization", "org-1"), "no-credit", "answer", None),
        Cooldown(Scope("account", "bob"), "window", "answer", 1_700_000_000),
    ]
    metrics = Metrics(one_account("http://127.0.0.1:1"), UpstreamClients(), cooldowns=lambda: noted)
    found = samples((await metrics.answer(""))[0].decode())
    assert {labels[1:]: number for labels, number in found.items() if labels[0] == "tokenferry_cooldowns"} == {
        ("cause=window", "kind=account", "name=alice"): 2,
        ("cause=no-credit", "kind=organization", "name=org-1"): 1,
    }


async def test_a_state_that_cannot_be_read_leaves_the_rest() -> None:
    def broken() -> list[Cooldown]:
        raise StorageFailed("the disk is gone")

    found = samples(
        (await Metrics(one_account("http://127.0.0.1:1"), UpstreamClients(), cooldowns=broken).answer(""))[0].decode()
    )
    assert found["tokenferry_requests_in_flight",] == 0


async def test_workers_with_a_board_answer_for_each_other() -> None:
    source, board = one_account("http://127.0.0.1:1"), SharedMemory(3)
    workers = [Metrics(source, UpstreamClients(), board=board, place=place) for place in range(3)]
    for place, metrics in enumerate(workers):
        for _ in range(place):
            metrics.add(
                RequestRecord("tf_1", "POST", "/", provider="p", account="a", status=200, usage=TokenUsage(1, 2))
            )
        metrics.publish()
    for metrics in workers:
        content, _ = await metrics.answer("")
        found = samples(content.decode())
        assert ("tokenferry_requests_total", "account=a", "model=", "provider=p", "status=200", "worker=1") not in found
        for number in (2, 3):
            labels = ("account=a", "model=", "provider=p", "status=200", f"worker={number}")
            assert found["tokenferry_requests_total", *labels] == number - 1
        assert found["tokenferry_requests_in_flight", "worker=1"] == 0


async def test_a_worker_that_replaces_another_clears_its_figures() -> None:
    board = SharedMemory(2)
    dead, asked = (
        Metrics(one_account("http://127.0.0.1:1"), UpstreamClients(), board=board, place=n) for n in range(2)
    )
    dead.watch(lambda: GatewayStatistics(streams=5))
    dead.publish()
    assert samples((await asked.answer(""))[0].decode())["tokenferry_streams_in_flight", "worker=1"] == 5
    Metrics(one_account("http://127.0.0.1:1"), UpstreamClients(), board=board, place=0).publish()
    assert samples((await asked.answer(""))[0].decode())["tokenferry_streams_in_flight", "worker=1"] == 0


def test_the_gateway_does_not_import_the_library_before_it_is_asked() -> None:
    program = "import sys, tokenferry.serve; print('prometheus_client' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.fixture
def costs() -> CostCounters:
    prices = PriceTable({"anthropic": "https://api.anthropic.com"}, [PriceSettings("mine", input=1, output=0)])
    costs = CostCounters()
    for model, key in (("claude-opus-5", "laptop"), ("claude-opus-5-20261001", "ci"), ("mine", "ci"), ("odd", "ci")):
        entry = LedgerEntry(key_name=key, account="alice", provider="anthropic", model=model, input=10**6, at=1.8e9)
        price, cost = priced(entry, prices, entry.counts)
        costs.update({(cost_route(entry, price), key): cost})
    return costs


async def test_cost_is_counted_by_route_and_by_source_of_its_price(costs: CostCounters) -> None:
    metrics = Metrics(
        one_account("http://127.0.0.1:1"), UpstreamClients(), costs=costs, settings=MetricsSettings(client_keys=True)
    )
    found = samples((await metrics.answer(""))[0].decode())
    route = ("account=alice", "billing=metered")
    assert {labels[3:]: usd for labels, usd in found.items() if labels[0] == "tokenferry_cost_usd_total"} == {
        ("model=claude-opus", "provider=anthropic", "source=list"): 10.0,
        ("model=mine", "provider=anthropic", "source=config"): 1.0,
        ("model=odd", "provider=anthropic", "source=unknown"): 5.0,
    }
    assert all(labels[1:3] == route for labels in found if labels[0] == "tokenferry_cost_usd_total")
    assert found["tokenferry_key_cost_usd_total", "key=ci"] == 11.0
    metrics.adopt(MetricsSettings())
    assert ("tokenferry_key_cost_usd_total", "key=ci") not in samples((await metrics.answer(""))[0].decode())


async def test_budgets_are_reported_in_their_unit_and_single_keys_only_on_request() -> None:
    states = [
        BudgetState("all", "the budget", "", "usd", "day", 20_000_000, 15_000_000, 500_000, 3, 1_800_000_000_000),
        BudgetState("all", "the budget", "laptop", "tokens", "week", 1000, 10, 0, 0, 1_800_000_000_000),
    ]
    metrics = Metrics(one_account("http://127.0.0.1:1"), UpstreamClients(), budgets=lambda: states)
    labels = ("key=", "period=day", "subject=all", "unit=usd")
    found = samples((await metrics.answer(""))[0].decode())
    names = ("limit", "spent", "reserved", "refusals_total", "reset_timestamp_seconds")
    assert [found[f"tokenferry_budget_{name}", *labels] for name in names] == [20.0, 15.0, 0.5, 3, 1_800_000_000]
    by_key = ("tokenferry_budget_limit", "key=laptop", "period=week", "subject=all", "unit=tokens")
    assert by_key not in found
    metrics.adopt(MetricsSettings(client_keys=True))
    assert samples((await metrics.answer(""))[0].decode())[by_key] == 1000


async def test_refusals_for_a_rate_and_the_age_of_logins_are_counted() -> None:
    metrics = Metrics(
        one_account("http://127.0.0.1:1"), UpstreamClients(), login_ages=lambda: {"alice": 90.5}, sessions=lambda: 2
    )
    for error in ("key_rate_limited", "at_capacity", "at_capacity", "overloaded_error"):
        metrics.add(RequestRecord("tf_1", "POST", "/", status=429, error=error))
    found = samples((await metrics.answer(""))[0].decode())
    assert found["tokenferry_rate_refusals_total", "side=client"] == 1
    assert found["tokenferry_rate_refusals_total", "side=upstream"] == 2
    assert found["tokenferry_login_age_seconds", "account=alice"] == 90.5
    assert found["tokenferry_dashboard_sessions",] == 2
