"""Requests through a gateway that routes: what goes to which upstream, under which name, and what is told of it."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.rig import Gate, Origin, Source, answering, api_key, json_answer, running_gate, running_origin
from routing import claude_code
from tokenferry.gateway.telemetry.access_log import LogLine
from tokenferry.gateway.telemetry.decision_log import decision_of
from tokenferry.providers import Provider
from tokenferry.routing import BodyFacts, Router, scan
from tokenferry.settings import ModelMapping, ModelSettings, RouterSettings, RuleSettings
from tokenferry.stores import Account

pytestmark = pytest.mark.anyio

MODELS = (
    ModelSettings("errands", (ModelMapping("second", "vendor/small"), ModelMapping("first", "claude-small"))),
    ModelSettings("none", (ModelMapping("third", "x"),)),
)
ROUTER = RouterSettings(
    background="errands", rules=(RuleSettings("team", "errands", headers=(("x-team", "^research$"),)),)
)


@dataclass
class Two:
    """Two upstreams with an account each, and a gateway before them."""

    first: Origin
    second: Origin
    source: Source

    @contextlib.asynccontextmanager
    async def gate(
        self, router: RouterSettings = ROUTER, settings: RouterSettings | None = None, **more: Any
    ) -> AsyncIterator[Gate]:
        routes = Router(router, MODELS, self.source.providers)
        defaults = settings or RouterSettings(providers=("first",))
        async with running_gate(self.source, router=routes, settings=defaults, **more) as gate:
            yield gate

    def seen(self) -> tuple[list[Any], list[Any]]:
        """The models that each was asked for."""
        first, second = (
            [json.loads(one.body).get("model") for one in origin.seen] for origin in (self.first, self.second)
        )
        return first, second


def facts_of(body: bytes) -> BodyFacts:
    facts = scan([body])
    assert isinstance(facts, BodyFacts)
    return facts


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    async with running_origin() as first, running_origin() as second:
        providers = [
            Provider("first", "first", first.url),
            Provider("second", "second", second.url, key_header="authorization", passthrough=True),
            Provider("third", "third", second.url),
        ]
        source = Source(providers, [Account("alice", "first", "api-key"), Account("bob", "second", "api-key")])
        source.results = {"alice": [api_key("alice")], "bob": [replace(api_key("bob"), header="authorization")]}
        yield Two(first, second, source)


async def test_a_routed_request_goes_to_its_provider_under_its_name_there_and_is_else_unchanged(two: Two) -> None:
    body = claude_code.body("claude-haiku-4-5")
    async with two.gate() as gate:
        for path in (b"/v1/messages?beta=true", b"/v1/messages/count_tokens?beta=true"):
            assert (await gate.call(path, body=body)).status == 200
        record = await gate.records.last(2)
    assert two.first.seen == []
    for seen in two.second.seen:
        assert seen.body == body.replace(b'"claude-haiku-4-5"', b'"vendor/small"', 1)
        assert seen.all(b"content-length") == [b"%d" % len(seen.body)]
        assert seen.all(b"authorization") == [b"Bearer sk-ant-api03-bob"]
        assert not seen.all(b"x-api-key")
    assert (record.provider, record.account) == ("second", "bob")
    assert (record.model, record.upstream_model) == ("claude-haiku-4-5", "vendor/small")
    told = decision_of(record).content
    assert told["rule"].startswith("background: ")
    assert told["rule"].endswith("so claude-haiku-4-5 goes to errands")
    assert told["upstream_model"] == "vendor/small"


async def test_what_no_rule_is_about_goes_where_it_went_before_byte_for_byte(two: Two) -> None:
    body = claude_code.body("claude-opus-5-5")
    async with two.gate() as gate:
        assert (await gate.call(body=body)).status == 200
        record = await gate.records.last()
    assert [seen.body for seen in two.first.seen] == [body]
    assert two.second.seen == []
    assert record.upstream_model is None
    assert record.decision is not None
    assert record.decision.rule == (
        "default: no rule applied, so the model keeps its name; "
        "they are those of [router] providers that have accounts, in its order"
    )


async def test_the_tag_names_the_model_and_does_not_go_up(two: Two) -> None:
    body = claude_code.body(third="a<CCM-SUBAGENT-MODEL>errands</CCM-SUBAGENT-MODEL>b")
    async with two.gate() as gate:
        assert (await gate.call(body=body)).status == 200
    (seen,) = two.second.seen
    assert json.loads(seen.body)["system"][2]["text"] == "ab"
    assert b"CCM-SUBAGENT" not in seen.body


async def test_the_next_mapping_is_asked_by_its_own_name_when_the_first_is_limited(two: Two) -> None:
    two.second.scripts = [
        json_answer(b'{"type":"error","error":{"type":"rate_limit_error"}}', status=429, headers=[b"retry-after: 99"])
    ]
    async with two.gate() as gate:
        assert (await gate.call(body=b'{"model":"errands"}')).status == 200
        record = await gate.records.last()
    assert two.seen() == (["claude-small"], ["vendor/small"])
    assert (record.upstream_model, record.attempts) == ("claude-small", 2)


async def test_a_clients_words_are_kept_only_if_they_are_harmless(two: Two) -> None:
    key = "sk-ant-api03-" + "x" * 30
    tag = f"<CCM-SUBAGENT-MODEL>{key}</CCM-SUBAGENT-MODEL>"
    bodies = ({"model": key}, {"model": "m", "system": tag}, {"model": f"claude-haiku {key}"})
    async with two.gate() as gate:
        for given in bodies:
            await gate.call(body=json.dumps(given).encode())
        records = [await gate.records.last(3)] and gate.records.all
    async with two.gate(RouterSettings(unmapped="reject")) as gate:
        await gate.call(body=json.dumps({"model": key}).encode())
        records = [*records, await gate.records.last()]
    for record in records:
        assert key not in json.dumps(decision_of(record).content)
        assert key not in str(LogLine(record))


async def test_headers_of_the_request_count(two: Two) -> None:
    async with two.gate() as gate:
        await gate.call(headers=[(b"X-Team", b"research")], body=b'{"model":"m"}')
        await gate.call(headers=[(b"x-team", b"sales")], body=b'{"model":"m"}')
    assert two.seen() == (["m"], ["vendor/small"])


async def test_a_model_without_a_provider_is_refused_with_what_is_missing(two: Two) -> None:
    async with two.gate() as gate:
        reply = await gate.call(body=b'{"model":"none"}')
        assert reply.status == 503
        assert b"tokenferry account add NAME --provider third" in reply.body
        assert (await gate.call(body=b"{}")).status == 400
    async with two.gate(RouterSettings(unmapped="reject")) as gate:
        reply = await gate.call(body=b'{"model":"other"}')
        assert (reply.status, reply.all(b"x-tokenferry-error")) == (400, [b"unmapped_model"])
        assert (await gate.call(body=b'{"model":"ERRANDS"}')).status == 200


async def test_an_account_that_comes_counts_at_once(two: Two) -> None:
    async with two.gate() as gate:
        assert (await gate.call(body=b'{"model":"none"}')).status == 503
        two.source.known.append(Account("carol", "third", "api-key"))
        two.source.results["carol"] = [api_key("carol")]
        assert (await gate.call(body=b'{"model":"none"}')).status == 200
    assert two.seen()[1] == ["x"]


async def test_one_account_for_everything_keeps_what_is_mapped_elsewhere(two: Two) -> None:
    async with two.gate(settings=RouterSettings(account="alice")) as gate:
        await gate.call(body=b'{"model":"errands"}')
        await gate.call(body=b'{"model":"m"}')
    assert two.seen() == (["claude-small", "m"], [])


# -- a credential of the client's own


OWN = b"own-key-of-the-client"


async def test_its_own_credential_goes_up_in_place_of_an_accounts(two: Two) -> None:
    two.second.scripts = [json_answer(headers=[b"anthropic-ratelimit-requests-remaining: 7"])]
    async with two.gate() as gate:
        reply = await gate.call(
            headers=[(b"x-tokenferry-key", gate.key), (b"x-api-key", OWN)], body=b'{"model":"errands"}'
        )
        record = await gate.records.last()
    assert reply.status == 200
    assert reply.all(b"anthropic-ratelimit-requests-remaining") == [b"7"]
    (seen,) = two.second.seen
    assert seen.all(b"x-api-key") == [OWN]
    assert not seen.all(b"authorization")
    assert not seen.all(b"x-tokenferry-key")
    assert json.loads(seen.body) == {"model": "vendor/small"}
    assert record.account == "(the client's own)"
    assert OWN.decode() not in json.dumps(decision_of(record).content)


async def test_it_goes_to_no_provider_that_does_not_say_so(two: Two) -> None:
    async with two.gate() as gate:
        given = [(b"x-tokenferry-key", gate.key), (b"x-api-key", OWN)]
        await gate.call(headers=given, body=b'{"model":"m"}')
    (seen,) = two.first.seen
    assert seen.all(b"x-api-key") == [b"sk-ant-api03-alice"]


async def test_without_routing_it_goes_to_the_first_that_takes_it_also_without_accounts(two: Two) -> None:
    two.source.known = []
    async with running_gate(two.source) as gate:
        given = [(b"x-tokenferry-key", gate.key), (b"authorization", b"Bearer " + OWN)]
        assert (await gate.call(headers=given, body=b'{"model":"m"}')).status == 200
        assert (await gate.call(b"/v1/models", headers=given, method=b"GET")).status == 200
        assert (await gate.call(headers=[(b"x-tokenferry-key", gate.key)], body=b'{"model":"m"}')).status == 503
    assert [seen.all(b"authorization") for seen in two.second.seen] == [[b"Bearer " + OWN]] * 2
    assert two.first.seen == []


async def test_its_limits_start_no_cooldown_and_its_refusal_is_the_clients_error(two: Two) -> None:
    two.second.scripts = [
        json_answer(b'{"type":"error","error":{"type":"rate_limit_error"}}', status=429, headers=[b"retry-after: 99"]),
        json_answer(b'{"type":"error","error":{"type":"authentication_error"}}', status=401),
        json_answer(),
    ]
    async with two.gate() as gate:
        given = [(b"x-tokenferry-key", gate.key), (b"x-api-key", OWN)]
        limited = await gate.call(headers=given, body=b'{"model":"errands"}')
        assert (limited.status, limited.all(b"retry-after")) == (429, [b"99"])
        refused = await gate.call(headers=given, body=b'{"model":"errands"}')
        assert refused.status == 401
        assert refused.all(b"x-should-retry") == []
        assert (await gate.call(body=b'{"model":"errands"}')).status == 200
    assert two.seen() == ([], ["vendor/small"] * 3)
    assert two.second.seen[-1].all(b"authorization") == [b"Bearer sk-ant-api03-bob"]


# -- the list of models


LISTED = json.dumps({"data": [{"type": "model", "id": "claude-a", "display_name": "A"}], "has_more": False}).encode()


def ids(body: bytes) -> list[str]:
    return [one["id"] for one in json.loads(body)["data"]]


async def test_mapped_models_are_listed_before_the_upstreams(two: Two) -> None:
    two.first.scripts = [json_answer(LISTED, headers=[b"request-id: req_1"])]
    async with two.gate() as gate:
        reply = await gate.call(b"/v1/models?limit=1000", method=b"GET")
        assert (reply.status, reply.complete, ids(reply.body)) == (200, True, ["errands", "none", "claude-a"])
        one = await gate.call(b"/v1/models/errands", method=b"GET")
        assert json.loads(one.body)["id"] == "errands"
        assert len(two.first.seen) == 1
        assert (await gate.call(b"/v1/models/claude-a", method=b"GET")).body == LISTED
        assert len(reply.all(b"x-tokenferry-request-id")) == 1


@pytest.mark.parametrize(
    "script",
    [
        json_answer(b"{}", status=500),
        json_answer(b"[]"),
        json_answer(b"no json"),
        answering(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"),
        answering(b"HTTP/1.1 307 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"),
        answering(b"nonsense"),
    ],
)
async def test_mapped_models_are_listed_even_if_the_upstream_lists_none(two: Two, script: Any) -> None:
    two.first.scripts = [script]
    async with two.gate() as gate:
        reply = await gate.call(b"/v1/models", method=b"GET")
        assert (reply.status, reply.complete, ids(reply.body)) == (200, True, ["errands", "none"])
        assert (await gate.call(b"/v1/models", headers=[(b"x-api-key", b"wrong")], method=b"GET")).status == 401
        assert gate.gateway.statistics().in_flight == 0


async def test_no_upstream_is_asked_if_only_mapped_models_are_listed_and_nothing_is_listed_if_unwanted(
    two: Two,
) -> None:
    two.first.scripts = [json_answer(LISTED)]
    async with two.gate(RouterSettings(list_models="mapped")) as gate:
        assert ids((await gate.call(b"/v1/models", method=b"GET")).body) == ["errands", "none"]
    assert two.first.seen == []
    async with two.gate(RouterSettings(list_models="upstream")) as gate:
        assert (await gate.call(b"/v1/models", method=b"GET")).body == LISTED
