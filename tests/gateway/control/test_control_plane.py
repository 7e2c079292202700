"""What stands before the control plane, with a small application in its place."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.rig import Gate, Headers, Origin, Reply, Source, running_gate
from tokenferry.gateway import ERROR_MARK
from tokenferry.gateway.auth.rate_limit import BadKeys
from tokenferry.gateway.proxy.body import Receive, Scope, Send
from tokenferry.state import ClientKeys, Role, State

pytestmark = pytest.mark.anyio

ANY_API = b"/api/status"
CALLBACK = b"/oauth/callback?code=c&state=s"


class Application:
    """Tells what it was asked; fails where it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Scope, bytes]] = []
        self.hold: asyncio.Event | None = None
        self.entered = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert not message["more_body"]
        self.asked.append((scope, message["body"]))
        self.entered.set()
        if self.hold is not None:
            await self.hold.wait()
        if scope["path"] == "/api/fails":
            raise RuntimeError("a defect")
        content = json.dumps({"path": scope["path"]}).encode()
        headers = [(b"Content-Type", b"application/json"), (b"content-length", b"%d" % len(content))]
        if scope["path"] == "/api/page":
            headers.append((b"content-security-policy", b"default-src 'self'"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content[:4], "more_body": True})
        await send({"type": "http.response.body", "body": content[4:]})
        self.ended.set()


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / "home" / "state.db") as state:
        yield state


@pytest.fixture
def keys(state: State) -> ClientKeys:
    return state.keys


@pytest.fixture
def admin(keys: ClientKeys) -> bytes:
    return keys.create("boss", role="admin")[1].reveal().encode()


@pytest.fixture
def inference(keys: ClientKeys) -> bytes:
    return keys.create("laptop")[1].reveal().encode()


@pytest.fixture
async def gate(
    source: Source, keys: ClientKeys, admin: bytes, inference: bytes, application: Application
) -> AsyncIterator[Gate]:
    bad_keys = BadKeys(clock=lambda: 0.0)
    async with running_gate(source, keys=keys, key=admin.decode(), control=application, bad_keys=bad_keys) as gate:
        yield gate


def message_of(reply: Reply) -> str:
    document: dict[str, Any] = json.loads(reply.body)
    assert set(document) == {"success", "message"}
    assert document["success"] is False
    assert reply.all(ERROR_MARK)
    return str(document["message"])


def check_headers(reply: Reply) -> None:
    assert reply.all(b"cache-control") == [b"no-store"]
    assert reply.all(b"x-content-type-options") == [b"nosniff"]
    assert reply.all(b"referrer-policy") == [b"no-referrer"]
    assert b"frame-ancestors 'none'" in reply.all(b"content-security-policy")[0]
    assert not any(name.startswith(b"access-control") for name, _ in reply.headers)


async def test_a_whole_request_passes_without_its_key_but_with_whose_it_is(
    gate: Gate, application: Application, admin: bytes
) -> None:
    reply = await gate.call(b"/api/any%2Fthing?a=b", [(b"x-api-key", admin), (b"x-more", b"1")], b'{"n": 1}')
    assert (reply.status, json.loads(reply.body)) == (200, {"path": "/api/any/thing"})
    check_headers(reply)
    [(scope, body)] = application.asked
    assert body == b'{"n": 1}'
    assert (scope["raw_path"], scope["query_string"], scope["method"]) == (b"/api/any%2Fthing", b"a=b", "POST")
    assert scope["state"]["client_key"].name == "boss"
    assert (b"x-more", b"1") in scope["headers"]
    assert admin.decode() not in repr(scope)
    record = await gate.records.last()
    assert (record.client, record.status, record.path) == ("boss", 200, "/api/any%2Fthing")
    assert (record.bytes_in, record.bytes_out) == (8, len(reply.body))


@pytest.mark.parametrize("path", [b"/api/status", b"/api/", b"/openapi.json"])
async def test_it_takes_an_admin_key_and_nothing_else(
    gate: Gate, application: Application, inference: bytes, path: bytes
) -> None:
    wrong = await gate.call(path, [(b"x-api-key", inference)], method=b"GET")
    assert wrong.status == 403
    assert message_of(wrong).startswith("laptop is a client key, which opens inference and nothing else")
    unknown = await gate.call(path, [(b"authorization", b"Bearer tfa_no")], method=b"GET")
    none = await gate.call(path, [(b"authorization", b"")], method=b"GET")
    in_url = await gate.call(path + b"?key=" + gate.key, [(b"authorization", b"")], method=b"GET")
    assert [unknown.status, none.status, in_url.status] == [401, 401, 401]
    for reply in (wrong, unknown, none, in_url):
        check_headers(reply)
    assert application.asked == []


async def test_bad_keys_are_counted_and_a_good_one_passes(gate: Gate, application: Application) -> None:
    bad = gate.head(ANY_API, [(b"x-api-key", b"tfa_no")], method=b"GET")
    statuses = set()
    async with gate.open() as (reader, writer):
        for _ in range(201):
            writer.write(bad)
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.add(int(head.split()[1]))
            length = next(int(line.split()[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(length)
    assert statuses == {401, 429}
    assert (await gate.call(ANY_API, method=b"GET")).status == 200
    assert len(application.asked) == 1


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ((b"host", b"evil.example"), 421),
        ((b"origin", b"https://evil.example"), 403),
        ((b"origin", b"null"), 403),
        ((b"sec-fetch-site", b"cross-site"), 403),
        ((b"sec-fetch-site", b"same-site"), 403),
    ],
)
@pytest.mark.parametrize("path", [ANY_API, b"/openapi.json"])
async def test_pages_of_other_sites_are_refused_though_they_know_a_key(
    gate: Gate, application: Application, header: tuple[bytes, bytes], status: int, path: bytes
) -> None:
    for method in (b"GET", b"POST"):
        reply = await gate.call(path, [header], method=method)
        assert reply.status == status
        assert message_of(reply)
        check_headers(reply)
    assert application.asked == []


async def test_a_preflight_gets_no_permission(gate: Gate, application: Application) -> None:
    asking = [(b"origin", b"https://evil.example"), (b"access-control-request-method", b"POST")]
    reply = await gate.call(ANY_API, asking, method=b"OPTIONS")
    assert reply.status == 403
    check_headers(reply)
    assert application.asked == []


@pytest.mark.parametrize(
    "kind",
    [
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"application/json-patch+json",
        b"text/plain;application/json",
        b"",
    ],
)
async def test_only_json_is_read(gate: Gate, application: Application, kind: bytes) -> None:
    reply = await gate.call(ANY_API, [(b"content-type", kind)])
    assert (reply.status, message_of(reply)) == (415, "send JSON, with content-type: application/json")
    assert application.asked == []


async def test_a_body_without_a_type_is_refused_whatever_the_method(gate: Gate, application: Application) -> None:
    for method in (b"POST", b"DELETE", b"PUT"):
        head = b"%b /api/x HTTP/1.1\r\nhost: %b\r\nauthorization: Bearer %b\r\n" % (method, gate.host, gate.key)
        replies = [
            await gate.raw(head + b"content-length: 2\r\n\r\n{}"),
            await gate.raw(head + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        ]
        assert [reply.status for reply in replies] == [415, 415]
        assert (await gate.raw(head + b"content-length: 0\r\n\r\n")).status == 200
    assert {body for _, body in application.asked} == {b""}


async def test_json_may_name_its_charset(gate: Gate) -> None:
    reply = await gate.call(ANY_API, [(b"content-type", b"Application/JSON; charset=utf-8")])
    assert reply.status == 200


async def test_a_large_body_is_refused_before_it_is_read_and_while(gate: Gate, application: Application) -> None:
    announced = await gate.raw(gate.head(ANY_API, length=(1 << 20) + 1))
    assert announced.status == 413
    assert "1 MiB" in message_of(announced)
    chunked = gate.head(ANY_API, [(b"transfer-encoding", b"chunked")])
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    assert (await gate.raw(chunked, chunk * 17)).status == 413
    assert application.asked == []
    assert gate.gateway.statistics().held_bytes == 0


async def test_the_callback_needs_no_key_and_may_come_from_another_site(gate: Gate, application: Application) -> None:
    navigation: Headers = [
        (b"authorization", b""),
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-mode", b"navigate"),
        (b"sec-fetch-dest", b"document"),
        (b"cookie", b"a=b"),
    ]
    reply = await gate.call(CALLBACK, navigation, method=b"GET")
    assert reply.status == 200
    check_headers(reply)
    [(scope, _)] = application.asked
    assert scope["state"]["client_key"] is None
    assert (b"cookie", b"a=b") in scope["headers"]
    record = await gate.records.last()
    assert (record.client, record.path) == (None, "/oauth/callback")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ((b"host", b"evil.example"), 421),
        ((b"origin", b"https://evil.example"), 403),
        ((b"sec-fetch-mode", b"no-cors"), 403),
        ((b"sec-fetch-dest", b"iframe"), 403),
        ((b"sec-purpose", b"prefetch;prerender"), 403),
    ],
)
async def test_what_is_no_persons_navigation_gets_nowhere_at_the_callback(
    gate: Gate, application: Application, header: tuple[bytes, bytes], status: int
) -> None:
    assert (await gate.call(CALLBACK, [header], method=b"GET")).status == status
    assert application.asked == []


async def test_the_other_planes_paths_are_not_the_applications(gate: Gate, application: Application) -> None:
    assert (await gate.call(b"/api/hello", [(b"authorization", b"")], method=b"GET")).status == 200
    for path in (b"/api", b"/oauth", b"/oauth/callback/", b"/openapi.json/", b"/API/status"):
        assert (await gate.call(path, method=b"GET")).status == 404
    assert application.asked == []


async def test_without_an_application_there_is_no_such_path(source: Source, origin: Origin) -> None:
    async with running_gate(source) as gate:
        for path in (ANY_API, b"/openapi.json", b"/oauth/callback"):
            reply = await gate.call(path, method=b"GET")
            assert (reply.status, json.loads(reply.body)["type"]) == (404, "error")


async def test_a_defect_is_reported_in_the_applications_format_and_shows_nothing(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await gate.call(b"/api/fails")
    assert reply.status == 500
    assert message_of(reply) == "the gateway failed; its log gives the cause under this request's id"
    assert "a defect" in caplog.text


async def test_a_page_may_have_a_policy_of_its_own(gate: Gate) -> None:
    reply = await gate.call(b"/api/page", method=b"GET")
    assert reply.all(b"content-security-policy") == [b"default-src 'self'"]


async def test_a_client_that_leaves_does_not_end_what_it_began(gate: Gate, application: Application) -> None:
    application.hold = asyncio.Event()
    async with gate.open() as (_, writer):
        writer.write(gate.head(ANY_API, length=2) + b"{}")
        await application.entered.wait()
    application.hold.set()
    async with asyncio.timeout(20):
        await application.ended.wait()


OPENS = {
    "client": (403, 403, 403, 200),
    "admin": (200, 200, 200, 403),
    "viewer": (200, 403, 200, 403),
    "metrics": (403, 403, 200, 403),
}


@pytest.mark.parametrize("role", OPENS)
async def test_a_role_opens_what_it_is_for_and_nothing_else(gate: Gate, keys: ClientKeys, role: Role) -> None:
    """Reading the API, changing something by it, /metrics, and inference."""
    _, secret = await asyncio.to_thread(keys.create, "it", role=role)
    headers = [(b"x-api-key", secret.reveal().encode())]
    read = await gate.call(b"/api/accounts", headers, method=b"GET")
    writes = [
        await gate.call(b"/api/accounts", headers, b"{}"),
        await gate.call(b"/api/accounts/a", headers, method=b"DELETE"),
        await gate.call(b"/api/accounts/a", headers, b"{}", method=b"PATCH"),
    ]
    metrics = await gate.call(b"/metrics", headers, method=b"GET")
    inference = await gate.call(b"/v1/messages", headers)
    wanted = OPENS[role]
    assert read.status == wanted[0]
    assert {one.status for one in writes} == {wanted[1]}
    assert (403 if metrics.status == 403 else 200) == wanted[2]  # this gateway counts nothing, so it is a 404
    assert inference.status == wanted[3]
