"""Who may call: real requests against a running gateway."""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.rig import Gate, Headers, Origin, Source, json_answer, running_gate
from leaks import leaks
from tokenferry.gateway import ERROR_MARK, Guard, own_hosts
from tokenferry.gateway.auth.rate_limit import BAD_KEYS_PER_MINUTE
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.headers import HeaderList
from tokenferry.gateway.telemetry.access_log import LogLine
from tokenferry.secret import Secret
from tokenferry.state import INFERENCE_PREFIX, KEY_LENGTH, ClientKey, ClientKeys, State

pytestmark = pytest.mark.anyio


def message_of(body: bytes) -> str:
    message: str = json.loads(body)["error"]["message"]
    return message


@pytest.mark.parametrize("name", [b"127.0.0.1", b"localhost", b"LOCALHOST", b"[::1]"])
async def test_the_listeners_own_names_are_answered(gate: Gate, name: bytes) -> None:
    reply = await gate.call(headers=[(b"host", name + b":%d" % gate.port)])
    assert reply.status == 200


@pytest.mark.parametrize("path", [b"/", b"/healthz", b"/api/hello", b"/v1/models", b"/nowhere"])
@pytest.mark.parametrize("name", [b"evil.example", b"127.0.0.1", b"127.0.0.1:1", b"localhost.", b"", b"127.0.0.1@evil"])
async def test_any_other_host_is_misdirected(gate: Gate, origin: Origin, name: bytes, path: bytes) -> None:
    reply = await gate.call(path, [(b"host", name)], method=b"GET")
    assert reply.status == 421
    assert origin.seen == []


async def test_allowed_hosts_are_answered_with_and_without_the_port(source: Source) -> None:
    async with running_gate(source, allowed_hosts=("gateway.local",)) as gate:
        bare = await gate.call(headers=[(b"host", b"gateway.local")])
        full = await gate.call(headers=[(b"host", b"gateway.local:%d" % gate.port)])
    assert (bare.status, full.status) == (200, 200)


def test_port_80_needs_not_be_named() -> None:
    assert b"localhost" in own_hosts("127.0.0.1", 80, ())
    assert b"localhost" not in own_hosts("127.0.0.1", 8080, ())
    assert b"[::1]:8080" in own_hosts("::1", 8080, ())


@pytest.mark.parametrize(
    "header",
    [
        (b"origin", b"https://evil.example"),
        (b"origin", b"null"),
        (b"origin", b"http://127.0.0.1:1"),
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-site", b"same-site"),
    ],
)
@pytest.mark.parametrize("path", [b"/v1/models", b"/healthz"])
async def test_pages_of_other_sites_are_refused(
    gate: Gate, origin: Origin, header: tuple[bytes, bytes], path: bytes
) -> None:
    reply = await gate.call(path, [header], method=b"GET")
    assert reply.status == 403
    assert origin.seen == []
    assert not any(name.startswith(b"access-control") for name, _ in reply.headers)


async def test_the_gateways_own_origin_passes(gate: Gate) -> None:
    headers = [(b"origin", b"http://" + gate.host), (b"sec-fetch-site", b"same-origin")]
    assert (await gate.call(headers=headers)).status == 200


async def test_a_preflight_gets_no_permission(gate: Gate) -> None:
    reply = await gate.call(b"/v1/messages", [(b"origin", b"http://" + gate.host)], method=b"OPTIONS")
    assert reply.status == 405
    assert not any(name.startswith(b"access-control") for name, _ in reply.headers)


@pytest.mark.parametrize(
    "kind",
    [b"text/plain", b"Text/Plain;charset=utf-8", b"application/x-www-form-urlencoded", b"multipart/form-data; a=b"],
)
async def test_types_a_page_can_send_are_refused(gate: Gate, origin: Origin, kind: bytes) -> None:
    reply = await gate.call(headers=[(b"content-type", kind)])
    assert reply.status == 415
    assert origin.seen == []


@pytest.mark.parametrize(
    "kind",
    [
        b"application/json",
        b"Application/JSON ; charset=UTF-8",
        b'application/json;charset="utf8"; profile="a;b=c"; x=y;',
        b"application/vnd.x.v1+json",
        b"text/json",
    ],
)
async def test_json_in_utf_8_is_read_by_the_upstream_as_it_is_here(gate: Gate, origin: Origin, kind: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-encoding", b"identity")]
    assert (await gate.call(headers=headers)).status == 200
    assert origin.seen[0].all(b"content-type") == [kind]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"application/json; charset=utf-16")],
        [(b"content-type", b"application/json;charset=utf-8;charset=utf-7")],
        [(b"content-type", b'application/json; charset="utf-1\\6"')],
        [(b"content-type", b"application/json; charset*=utf-8''utf-16")],
        [(b"content-type", b"application/json; charset =utf-16")],
        [(b"content-type", b'application/json; x="; charset=utf-8')],
        [(b"content-type", b"application/json, application/json")],
        [(b"content-type", b"application/json"), (b"Content-Type", b"application/json")],
        [(b"content-type", b"application/cbor")],
        [(b"content-type", b"")],
        [(b"content-type", b"application/json" + b"; " * 5000 + b"!")],
        [(b"content-encoding", b"gzip")],
        [(b"content-encoding", b"identity"), (b"Content-Encoding", b"br")],
        [(b"content-encoding", b"identity, gzip")],
    ],
)
@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1/messages/count_tokens"])
async def test_what_an_upstream_could_read_otherwise_is_refused(
    gate: Gate, origin: Origin, path: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    reply = await gate.call(path, headers)
    assert reply.status == 415
    assert message_of(reply.body).startswith("send ")
    assert origin.seen == []


@pytest.mark.parametrize("path", [b"/", b"/api/hello", b"/healthz", b"/readyz"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_probes_need_no_key_and_touch_no_upstream(
    gate: Gate, origin: Origin, source: Source, path: bytes, method: bytes
) -> None:
    source.known = []
    reply = await gate.call(path, [(b"x-api-key", b"")], method=method)
    assert reply.status == 200
    assert bool(reply.body) is (method == b"GET")
    # Whoever asks learns nothing of the home: neither where it is, nor which accounts or keys it has.
    assert reply.body in {
        b"",
        b'{"name":"tokenferry"}',
        b'{"message":"hello"}',
        b'{"status":"ok"}',
        b'{"status":"ready"}',
    }
    assert origin.seen == []


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([(b"x-api-key", b"")], "a client key is needed"),
        ([(b"authorization", b"Bearer ")], "apiKeyHelper printed nothing"),
        ([(b"authorization", b"Bearer")], "apiKeyHelper printed nothing"),
        ([(b"authorization", b"Bearer wrong")], "not a client key of this gateway"),
        ([(b"x-api-key", b"\xff\xfe\xc3")], "not a client key of this gateway"),
        ([(b"authorization", b"Bearer tfk_" + b"\xe4" * 43)], "not a client key of this gateway"),
        ([(b"x-api-key", b"x" * 10_000)], "not a client key of this gateway"),
        ([(b"x-api-key", b"sk-ant-api03-real")], "not a vendor's key"),
        ([(b"authorization", b"Basic abc")], "a client key is needed"),
    ],
)
async def test_a_missing_or_unknown_key_is_a_401_that_tells_what_to_do(
    gate: Gate, origin: Origin, headers: Headers, says: str
) -> None:
    reply = await gate.call(headers=headers)
    assert reply.status == 401
    assert reply.all(b"x-should-retry") == [b"false"]
    assert reply.all(ERROR_MARK) == [b"authentication_error"]
    message = message_of(reply.body)
    assert says in message
    assert "tokenferry key create NAME" in message
    assert "tokenferry token --gateway" in message
    assert origin.seen == []


async def test_either_header_may_hold_the_key(gate: Gate) -> None:
    good, bad = gate.key, b"tfk_" + b"x" * 43
    for headers in (
        [(b"x-api-key", good)],
        [(b"authorization", b"bearer " + good)],
        [(b"authorization", b"Bearer " + bad), (b"x-api-key", good)],
        [(b"authorization", b"Bearer " + good), (b"x-api-key", bad)],
        [(b"authorization", b"Bearer "), (b"x-api-key", good)],
    ):
        assert (await gate.call(headers=headers)).status == 200


@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1/chat/completions", b"/v1/models", b"/", b"/nowhere"])
@pytest.mark.parametrize("name", [b"key", b"api_key", b"x-api-key", b"API-KEY", b"access_token", b"anything"])
async def test_a_key_in_the_query_is_refused_with_a_hint_and_logged_nowhere(
    gate: Gate, origin: Origin, caplog: pytest.LogCaptureFixture, path: bytes, name: bytes
) -> None:
    method = b"POST" if path.startswith((b"/v1/me", b"/v1/c")) else b"GET"
    with caplog.at_level(logging.DEBUG):
        reply = await gate.call(path + b"?a=b&" + name + b"=" + gate.key, method=method)
    assert (reply.status, reply.all(b"x-tokenferry-error")) == (401, [b"key_in_query"])
    assert b"authorization" in reply.body
    told = caplog.text + str(LogLine(await gate.records.last())) + str(reply)
    assert gate.key.decode() not in told
    assert origin.seen == []


@dataclass
class Keys:
    """The keys as two processes have them open, and the clock of the first."""

    here: ClientKeys
    elsewhere: ClientKeys
    now: list[float]


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    now = [0.0]
    path = tmp_path / "home" / "state.db"
    with State(path, monotonic=lambda: now[0]) as state, State(path) as elsewhere:
        yield Keys(state.keys, elsewhere.keys, now)


def presenting(secret: Secret) -> Headers:
    return [(b"x-api-key", secret.reveal().encode())]


async def test_an_admin_key_opens_no_inference(source: Source, keys: Keys) -> None:
    _, admin = await asyncio.to_thread(keys.here.create, "root", role="admin")
    _, plain = await asyncio.to_thread(keys.here.create, "laptop")
    async with running_gate(source, keys=keys.here) as gate:
        refused = await gate.call(headers=presenting(admin))
        bearer = (b"authorization", b"Bearer " + plain.reveal().encode())
        passed = await gate.call(headers=[*presenting(admin), bearer])
    assert refused.status == 403
    assert "admin key" in message_of(refused.body)
    assert passed.status == 200


async def test_an_expired_key_is_a_401_that_says_so(source: Source, tmp_path: Path) -> None:
    def expired() -> tuple[State, Secret]:
        now = [1_000.0]
        state = State(tmp_path / "home" / "state.db", now=lambda: now[0])
        _, secret = state.keys.create("ci", expires_at=2_000)
        now[0] = 86_400.0
        return state, secret

    state, secret = await asyncio.to_thread(expired)
    async with running_gate(source, keys=state.keys) as gate:
        for headers in (presenting(secret), [*presenting(secret), (b"authorization", b"Bearer tfk_" + b"x" * 43)]):
            reply = await gate.call(headers=headers)
            assert reply.status == 401
            assert reply.all(ERROR_MARK) == [b"key_expired"]
            assert "client key ci expired on 1970-01-01 at 00:33:20 UTC" in message_of(reply.body)
    await asyncio.to_thread(state.close)


class Ring:
    """Takes every admin key for one."""

    def verify(self, presented: str) -> ClientKey | None:
        return ClientKey("key_1", "root", "admin", created_at=0, fingerprint="") if "tfa" in presented else None

    def expired(self, presented: str) -> ClientKey | None:
        return None

    def is_away(self) -> bool:
        return False

    def is_sole(self) -> bool:
        return True


def test_no_key_is_in_the_locals_of_a_refusal() -> None:
    guard = Guard(Ring(), frozenset())
    for value in ("tfa_" + "y" * 43, "tfk_" + "y" * 43, "sk-ant-api03-" + "y" * 40):
        headers = HeaderList()
        headers.append((b"x-api-key", value.encode()))
        with pytest.raises(GatewayError) as caught:
            guard.check_key(headers, "127.0.0.1")
        assert not leaks(caught.value, value)


class AwayRing(Ring):
    """One whose database can't be asked."""

    def is_away(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("presented", "status"), [("tfk_" + "y" * 43, 503), ("tfv_" + "y" * 43, 503), ("sk-ant-api03-y", 401), ("", 401)]
)
def test_a_possibly_good_key_does_not_count_as_bad_while_the_database_is_away(presented: str, status: int) -> None:
    guard = Guard(AwayRing(), frozenset())
    headers = HeaderList()
    headers.append((b"x-api-key", presented.encode()))
    for _ in range(BAD_KEYS_PER_MINUTE + 1):
        with pytest.raises(GatewayError) as caught:
            guard.check_key(headers, None)
    assert caught.value.status == (429 if status == 401 and presented else status)
    headers.append((b"authorization", b"Bearer tfa_" + b"y" * 43))
    assert guard.check_key(headers, "127.0.0.1", roles=("admin",)).name == "root"


async def test_a_key_revoked_elsewhere_stops(source: Source, keys: Keys) -> None:
    _, secret = await asyncio.to_thread(keys.here.create, "laptop")
    async with running_gate(source, keys=keys.here) as gate:
        assert (await gate.call(headers=presenting(secret))).status == 200
        await asyncio.to_thread(keys.elsewhere.revoke, "laptop")
        keys.now[0] += 0.5
        assert (await gate.call(headers=presenting(secret))).status == 401


async def test_a_key_made_elsewhere_works_at_once(source: Source, keys: Keys) -> None:
    async with running_gate(source, keys=keys.here) as gate:
        _, secret = await asyncio.to_thread(keys.elsewhere.create, "laptop")
        assert (await gate.call(headers=presenting(secret))).status == 200


async def test_limits_are_the_callers_while_there_is_one_key(source: Source, origin: Origin, keys: Keys) -> None:
    origin.scripts = [json_answer(headers=[b"anthropic-ratelimit-requests-limit: 5"])]
    _, secret = await asyncio.to_thread(keys.here.create, "local")
    async with running_gate(source, keys=keys.here, key=secret.reveal()) as gate:
        alone = await gate.call()
        await asyncio.to_thread(keys.here.create, "root", role="admin")
        still_alone = await gate.call()
        await asyncio.to_thread(keys.here.create, "laptop")
        shared = await gate.call()
    assert alone.all(b"anthropic-ratelimit-requests-limit") == [b"5"]
    assert still_alone.all(b"anthropic-ratelimit-requests-limit") == [b"5"]
    assert not shared.all(b"anthropic-ratelimit-requests-limit")


def test_hosts_may_change_while_it_serves() -> None:
    headers = [(b"host", b"gateway.lan"), (b"origin", b"https://gateway.lan")]
    guard = Guard(Ring(), own_hosts("127.0.0.1", 1, ()))
    with pytest.raises(GatewayError):
        guard.check_source(headers)
    guard.answer_to(own_hosts("127.0.0.1", 1, ("gateway.lan",)))
    guard.check_source(headers)
    guard.answer_to(own_hosts("127.0.0.1", 1, ()))
    with pytest.raises(GatewayError):
        guard.check_source(headers)


@pytest.mark.parametrize("comes", [True, False])
async def test_a_key_typed_to_sign_in_that_another_host_made_is_looked_up(*, comes: bool) -> None:
    secret = Secret(INFERENCE_PREFIX + "a" * (KEY_LENGTH - len(INFERENCE_PREFIX)))
    known: dict[str, ClientKey] = {}
    made = ClientKey("key_1", "boss", "admin", 0, "")

    class Keys:
        def verify(self, presented: str) -> ClientKey | None:
            return known.get(presented)

        def expired(self, _: str) -> None:
            return None

        def is_away(self) -> bool:
            return False

    def look() -> None:
        if comes:
            known[secret.reveal()] = made

    guard = Guard(Keys(), frozenset(), look=look)  # type: ignore[arg-type]  # what it asks for here
    typed = asyncio.to_thread(
        guard.check_typed_key, [], "127.0.0.1", asyncio.get_running_loop(), f" {secret.reveal()} "
    )
    if comes:
        assert await typed is made
    else:
        with pytest.raises(GatewayError) as refusal:
            await typed
        assert refusal.value.status == 401
