"""What a client key may use, through the gateway: nothing else serves it, and no spelling gets around that."""

import json
from collections.abc import AsyncIterator

import pytest

from gateway.rig import Gate, Origin, Script, Source, answering, api_key, error_of, json_answer, running_gate
from tokenferry.gateway import ERROR_MARK
from tokenferry.providers import Provider
from tokenferry.settings import RouterSettings
from tokenferry.state import ClientKey, Rights
from tokenferry.stores import Account

pytestmark = pytest.mark.anyio

MODEL = "claude-haiku-4-5"
KEY = "tfk_guest"


class Ring:
    """One key, and what it may be used for."""

    def __init__(self) -> None:
        self.rights = Rights()

    def verify(self, presented: str) -> ClientKey | None:
        if presented != KEY:
            return None
        return ClientKey("key_1", "guest", "client", created_at=0, fingerprint="", rights=self.rights)

    def expired(self, presented: str) -> ClientKey | None:
        return None

    def is_away(self) -> bool:
        return False

    def is_sole(self) -> bool:
        return True


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def source(origin: Origin) -> Source:
    """Accounts of two providers: alice and bob of one, carol of the other."""
    source = Source(
        [Provider("one", "one", origin.url), Provider("two", "two", origin.url)],
        [Account("alice", "one", "api-key"), Account("bob", "one", "api-key"), Account("carol", "two", "api-key")],
    )
    source.results = {account.name: [api_key(account.name)] for account in source.known}
    return source


def body(model: object = MODEL, **more: object) -> bytes:
    return json.dumps({"model": model, "max_tokens": 1, "messages": [], **more}).encode()


def used(origin: Origin) -> list[str]:
    return [seen.all(b"x-api-key")[0].decode().removeprefix("sk-ant-api03-") for seen in origin.seen]


@pytest.fixture
async def gate(source: Source, ring: Ring) -> AsyncIterator[Gate]:
    async with running_gate(source, keys=ring, key=KEY, settings=RouterSettings(providers=("one", "two"))) as gate:
        yield gate


async def test_a_model_that_is_allowed_passes_and_another_is_a_400_that_says_what_is(
    gate: Gate, origin: Origin, ring: Ring
) -> None:
    ring.rights = Rights(models=("claude-haiku*", "glm"))
    assert (await gate.call(body=body())).status == 200
    assert (await gate.call(b"/v1/messages/count_tokens", None, body("glm"))).status == 200
    for target in (b"/v1/messages", b"/v1/messages/count_tokens", b"/v1/messages?beta=true"):
        reply = await gate.call(target, None, body("claude-opus-4-5"))
        assert reply.status == 400
        assert error_of(reply.body) == {
            "type": "invalid_request_error",
            "message": "client key guest may not use model claude-opus-4-5; it may use claude-haiku*, glm",
        }
        assert reply.all(ERROR_MARK) == [b"model_denied"]
        assert reply.all(b"x-should-retry") == [b"false"]
    assert len(origin.seen) == 2
    record = await gate.records.last(5)
    assert (record.client, record.error, record.model) == ("guest", "model_denied", "claude-opus-4-5")


@pytest.mark.parametrize(
    "content",
    [
        b'{"model":"claude-haiku-4-5","model":"claude-opus-4-5"}',
        b'{"model":"claude-haiku-4-5","mod\\u0065l":"claude-opus-4-5"}',
        b'{"mod\\u0065l":"claude-opus-4-5"}',
        b'{"model":"claude-opus-4-5\\u0000"}',
        b'{"model":"claude-\\u006fpus-4-5"}',
        b'{"model":"claude-haiku-4-5 "}',
        b'{"model":"Claude-Haiku-4-5"}',
        b'{"model":"claude-haiku-4-5","Model":"claude-opus-4-5"}',
        b'{"Model":"claude-haiku-4-5"}',
        b'{"model":["claude-haiku-4-5"]}',
        b'{"model":null}',
        b"{}",
        b"[]",
        b"no json",
        b'\xef\xbb\xbf{"model":"claude-opus-4-5"}',
        '{"model":"claude-haiku-4-5"}'.encode("utf-16"),
        b'{"messages":[{"model":"claude-haiku-4-5"}],"model":"claude-opus-4-5"}',
        b'{"pad":"' + b"x" * (5 << 20) + b'","model":"claude-opus-4-5"}',
        b'{"model":"claude-haiku-4-5","pad":"' + b"x" * (5 << 20) + b'","model":"claude-opus-4-5"}',
    ],
    ids=lambda content: content[-60:],
)
async def test_no_spelling_gets_around_it(gate: Gate, origin: Origin, ring: Ring, content: bytes) -> None:
    ring.rights = Rights(models=("claude-haiku-4-5",))
    reply = await gate.call(body=content)
    assert reply.status == 400
    assert error_of(reply.body)["type"] == "invalid_request_error"
    assert origin.seen == []


async def test_a_sub_agents_tag_names_no_other_model(gate: Gate, origin: Origin, ring: Ring) -> None:
    tag = "you are helpful <CCM-SUBAGENT-MODEL>claude-opus-4-5</CCM-SUBAGENT-MODEL>"
    ring.rights = Rights(models=("claude-haiku*",))
    for system in (tag, [{"type": "text", "text": tag}]):
        reply = await gate.call(body=body(system=system))
        assert reply.status == 400
        assert "claude-opus-4-5" in error_of(reply.body)["message"]
    assert origin.seen == []


@pytest.mark.parametrize(
    ("rights", "names"),
    [
        (Rights(), {"alice"}),
        (Rights(accounts=("bob",)), {"bob"}),
        (Rights(accounts=("bob", "carol")), {"bob"}),
        (Rights(accounts=("carol",)), {"carol"}),
        (Rights(providers=("two",)), {"carol"}),
        (Rights(pin="bob"), {"bob"}),
        (Rights(pin="carol"), {"carol"}),
        (Rights(providers=("one",), accounts=("bob", "carol")), {"bob"}),
    ],
)
async def test_only_what_is_allowed_is_a_candidate(
    gate: Gate, origin: Origin, ring: Ring, rights: Rights, names: set[str]
) -> None:
    ring.rights = rights
    for target, method in ((b"/v1/messages", b"POST"), (b"/v1/models", b"GET")):
        assert (await gate.call(target, None, body(), method=method)).status == 200
    assert set(used(origin)) == names


@pytest.mark.parametrize("rights", [Rights(accounts=("nobody",)), Rights(providers=("three",)), Rights(pin="nobody")])
async def test_a_key_without_an_account_sees_no_other_account(
    gate: Gate, origin: Origin, ring: Ring, rights: Rights
) -> None:
    ring.rights = rights
    reply = await gate.call(body=body())
    assert reply.status == 503
    message = error_of(reply.body)["message"]
    assert "guest" in message
    assert not any(name in message for name in ("alice", "bob", "carol"))
    assert origin.seen == []


@pytest.mark.parametrize(
    ("settings", "rights", "name"),
    [
        (RouterSettings(), Rights(pin="carol"), "carol"),
        (RouterSettings(), Rights(providers=("two",)), "carol"),
        (RouterSettings(account="alice"), Rights(pin="carol"), "carol"),
        (RouterSettings(account="alice"), Rights(pin="bob"), "bob"),
        (RouterSettings(providers=("two",)), Rights(pin="bob"), "bob"),
    ],
)
async def test_a_pin_goes_before_the_configuration_and_rights_do_for_its_doubts(
    source: Source, origin: Origin, ring: Ring, *, settings: RouterSettings, rights: Rights, name: str
) -> None:
    async with running_gate(source, keys=ring, key=KEY, settings=settings) as gate:
        ring.rights = rights
        assert (await gate.call(body=body())).status == 200
    assert used(origin) == [name]


async def test_rights_never_widen_what_the_configuration_allows(source: Source, origin: Origin, ring: Ring) -> None:
    async with running_gate(source, keys=ring, key=KEY, settings=RouterSettings(account="alice")) as gate:
        ring.rights = Rights(accounts=("bob",))
        assert (await gate.call(body=body())).status == 503
    assert origin.seen == []


async def test_rights_that_are_taken_away_count_for_the_next_request(gate: Gate, origin: Origin, ring: Ring) -> None:
    ring.rights = Rights(accounts=("alice", "bob"))
    assert (await gate.call(body=body())).status == 200
    ring.rights = Rights(accounts=("bob",), models=("glm",))
    assert (await gate.call(body=body())).status == 400
    assert (await gate.call(body=body("glm"))).status == 200
    assert used(origin) == ["alice", "bob"]


# -- the list of models


LISTED = {
    "data": [{"type": "model", "id": name} for name in ("claude-opus-4-5", "claude-haiku-4-5")],
    "has_more": False,
    "first_id": "claude-opus-4-5",
    "last_id": "claude-haiku-4-5",
}


async def test_the_upstreams_list_shows_what_the_key_may_use(gate: Gate, origin: Origin, ring: Ring) -> None:
    raw = json.dumps(LISTED).encode()
    origin.scripts = [json_answer(raw), json_answer(raw)]
    asked = [(b"x-api-key", KEY.encode()), (b"accept-encoding", b"gzip")]
    assert (await gate.call(b"/v1/models", asked, method=b"GET")).body == raw, "without rights it passes as it is"
    ring.rights = Rights(models=("claude-haiku*",))
    reply = await gate.call(b"/v1/models", asked, method=b"GET")
    assert json.loads(reply.body) == {
        "data": [{"type": "model", "id": "claude-haiku-4-5"}],
        "has_more": False,
        "first_id": "claude-haiku-4-5",
        "last_id": "claude-haiku-4-5",
    }
    assert [seen.all(b"accept-encoding") for seen in origin.seen] == [[b"gzip"], [b"identity"]]


async def test_one_model_that_the_key_may_not_use_is_not_shown(gate: Gate, origin: Origin, ring: Ring) -> None:
    ring.rights = Rights(models=("claude-haiku*",))
    reply = await gate.call(b"/v1/models/claude-opus-4-5", method=b"GET")
    assert (reply.status, reply.all(ERROR_MARK)) == (400, [b"model_denied"])
    assert origin.seen == []
    assert (await gate.call(b"/v1/models/claude-haiku-4-5", method=b"GET")).status == 200


@pytest.mark.parametrize(
    "script", [json_answer(b"no json"), answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")]
)
async def test_what_is_no_list_is_not_shown_to_a_key_with_rights(
    gate: Gate, origin: Origin, ring: Ring, script: Script
) -> None:
    ring.rights = Rights(models=("claude-haiku*",))
    origin.scripts = [script]
    reply = await gate.call(b"/v1/models", method=b"GET")
    assert (reply.status, reply.all(ERROR_MARK)) == (502, [b"model_list_failed"])
    assert gate.gateway.statistics().in_flight == 0


async def test_an_error_of_the_upstream_passes(gate: Gate, origin: Origin, ring: Ring) -> None:
    ring.rights = Rights(models=("claude-haiku*",))
    error = b'{"type":"error","error":{"type":"invalid_request_error","message":"limit"}}'
    origin.scripts = [json_answer(error, status=400)]
    reply = await gate.call(b"/v1/models?limit=0", method=b"GET")
    assert (reply.status, reply.body) == (400, error)
