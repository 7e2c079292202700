"""A request that comes back to the gateway that sent it ends there, by whatever way it came back."""

import json

import pytest

from gateway.rig import Origin, Source, api_key, error_of, json_answer, one_account, running_gate
from tokenferry.gateway import EphemeralKey, UpstreamClients, bind
from tokenferry.providers import is_builtin_vendor, vendor_hosts
from tokenferry.routing import Router
from tokenferry.settings import ModelMapping, ModelSettings
from tokenferry.stores import Account

pytestmark = pytest.mark.anyio

ID = "0123456789abcdef"
vendor_hosts()  # read from files before there is a loop
BODY = b'{"model":"claude-x"}'


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize(
    ("path", "method"),
    [
        (b"/v1/messages", b"POST"),
        (b"/v1/messages/count_tokens", b"POST"),
        (b"/v1/models", b"GET"),
        (b"/v1/models/x", b"GET"),
    ],
)
async def test_a_gateway_that_is_its_own_upstream_asks_itself_once(host: str, path: bytes, method: bytes) -> None:
    sock = bind("127.0.0.1", 0)
    keys = EphemeralKey()
    source = one_account(f"http://{host}:{sock.getsockname()[1]}", api_key())
    source.known.append(Account("bob", "fake", "api-key"))
    for name in ("alice", "bob"):
        source.results[name] = [type(api_key())(keys.secret)]
    async with running_gate(
        source, sock=sock, keys=keys, key=keys.secret.reveal(), upstreams=UpstreamClients(gateway_id=ID)
    ) as gate:
        reply = await gate.call(path, method=method, body=BODY)
        await gate.records.last(2)
        assert [record.status for record in gate.records.all] == [508, 508]
        assert not gate.gateway.forwarder.pool.cooldowns
    assert reply.status == 508
    assert reply.all(b"x-should-retry") == [b"false"]
    assert "base_url" in error_of(reply.body)["message"]


async def test_a_508_of_an_upstream_passes_and_no_other_upstream_is_asked(origin: Origin, two_accounts: Source) -> None:
    body = json.dumps({"type": "error", "error": {"type": "api_error", "message": "a loop"}}).encode()
    origin.scripts = [json_answer(body, status=508, headers=[b"x-should-retry: false"])]
    models = [ModelSettings("claude-x", (ModelMapping("fake", "claude-x"),))]
    router = Router(models=models, providers=two_accounts.providers)
    async with running_gate(two_accounts, router=router) as gate:
        for number, (path, method) in enumerate([(b"/v1/messages", b"POST"), (b"/v1/models", b"GET")], 1):
            reply = await gate.call(path, method=method, body=BODY)
            assert (reply.status, reply.body) == (508, body)
            assert reply.all(b"x-should-retry") == [b"false"]
            assert len(origin.seen) == number


async def test_another_gateways_requests_and_other_proxies_pass_with_their_via(origin: Origin, source: Source) -> None:
    async with running_gate(source, upstreams=UpstreamClients(gateway_id=ID)) as gate:
        reply = await gate.call(headers=[(b"via", b"1.1 tf-fedcba9876543210, 1.0 proxy")], body=BODY)
    assert reply.status == 200
    assert origin.seen[0].all(b"via") == [b"1.1 tf-fedcba9876543210, 1.0 proxy", b"1.1 tf-" + ID.encode()]


@pytest.mark.parametrize("via", [b"1.1 tf-" + ID.encode(), b"1.0 a, 1.1 tf-" + ID.encode() + b" (x), 2 b"])
async def test_nothing_is_sent_of_a_request_that_came_back(origin: Origin, source: Source, via: bytes) -> None:
    async with running_gate(source, upstreams=UpstreamClients(gateway_id=ID)) as gate:
        reply = await gate.call(headers=[(b"via", via)], body=BODY)
        record = await gate.records.last()
    assert (reply.status, record.error) == (508, "loop")
    assert not origin.seen


async def test_a_stranger_learns_nothing_by_a_via() -> None:
    async with running_gate(one_account("http://127.0.0.1:1"), upstreams=UpstreamClients(gateway_id=ID)) as gate:
        headers = [(b"via", b"1.1 tf-" + ID.encode()), (b"x-api-key", b"tfk_wrong")]
        assert (await gate.call(headers=headers, body=BODY)).status == 401


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("https://api.anthropic.com", True),
        ("https://api.z.ai/api/anthropic", True),
        ("https://openrouter.ai/api", True),
        ("https://api.anthropic.com.example.com", False),
        ("https://gateway.example.com", False),
        ("http://127.0.0.1:13457", False),
        ("http://localhost:1", False),
    ],
)
def test_only_others_than_the_vendors_hosts_are_sent_a_via(url: str, *, is_one: bool) -> None:
    assert is_builtin_vendor(url) is is_one
    assert UpstreamClients(gateway_id=ID).get(url)._lines == (b"" if is_one else b"via: 1.1 tf-%b\r\n" % ID.encode())
    assert UpstreamClients().get(url)._lines == b""
