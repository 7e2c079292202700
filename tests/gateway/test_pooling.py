"""Requests on their way over several accounts and providers, and what the client sees of it."""

import asyncio
import gzip
import itertools
import json
import time
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effort import effort
from gateway.rig import (
    Gate,
    Origin,
    Script,
    Seen,
    Source,
    answering,
    api_key,
    error_of,
    json_answer,
    one_account,
    queued,
    read_reply,
    running_gate,
    running_origin,
    token,
)
from tokenferry.errors import NeedsLogin
from tokenferry.gateway import ERROR_MARK
from tokenferry.pool import Pool
from tokenferry.providers import Provider
from tokenferry.settings import Caps, PoolSettings, RouterSettings
from tokenferry.stores import Account
from tokenferry.upstream import Timeouts

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
START = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":9}}}\n\n'
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
BLOCK = b'event: content_block_start\ndata: {"type":"content_block_start","index":0}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
BODY = b'{"model":"claude-sonnet-4-5","stream":true}'


def chunked(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


def error(status: int, kind: str, message: str = "no", headers: Iterable[bytes] = ()) -> Script:
    body = b'{"type":"error","error":{"type":"%b","message":"%b"}}' % (kind.encode(), message.encode())
    return json_answer(body, status=status, headers=headers)


def rejected(window: str = "5h", seconds: int = 3600) -> Script:
    prefix = b"anthropic-ratelimit-unified"
    until = int(time.time()) + seconds
    headers = [
        prefix + b"-status: rejected",
        prefix + b"-%b-status: rejected" % window.encode(),
        prefix + b"-%b-reset: %d" % (window.encode(), until),
        b"retry-after: %d" % seconds,
    ]
    return error(429, "rate_limit_error", "This request would exceed your limit", headers)


def keys_of(origin: Origin) -> list[bytes]:
    """Whose credential each request came with."""
    return [seen.all(b"x-api-key")[0].rpartition(b"-")[2] for seen in origin.seen]


async def test_an_account_that_hits_its_limit_gives_way_and_the_client_sees_nothing(
    origin: Origin, two_accounts: Source
) -> None:
    origin.scripts = [json_answer(b'{"n":1}'), rejected(), json_answer(b'{"n":2}')]
    async with running_gate(two_accounts) as gate:
        replies = [await gate.call() for _ in range(3)]
        record = await gate.records.last(3)
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert keys_of(origin) == [b"one", b"one", b"bob", b"bob"]
    assert (record.account, record.attempts) == ("bob", 1)
    assert [one.attempts for one in gate.records.all] == [1, 2, 1]


async def test_when_all_are_limited_the_client_reads_who_is_and_when_to_come_back(
    origin: Origin, two_accounts: Source
) -> None:
    origin.scripts = [rejected(seconds=7200), rejected(seconds=600)]
    async with running_gate(two_accounts) as gate:
        first, second = await gate.call(), await gate.call()
    assert (first.status, second.status) == (429, 429)
    told = error_of(first.body)
    assert told["type"] == "rate_limit_error"
    assert "alice: " in told["message"]
    assert "bob: " in told["message"]
    assert 590 <= int(first.all(b"retry-after")[0]) <= 640
    assert first.all(b"x-should-retry") == [b"false"]
    assert first.all(ERROR_MARK) == [b"exhausted"]
    assert len(origin.seen) == 2


async def test_a_sole_account_s_own_answer_passes_unchanged(origin: Origin) -> None:
    origin.scripts = [rejected()]
    async with running_gate(one_account(origin.url)) as gate:
        reply = await gate.call()
    assert reply.status == 429
    assert b"This request would exceed your limit" in reply.body
    assert not reply.all(ERROR_MARK)


async def test_an_overload_in_place_of_content_is_answered_elsewhere(origin: Origin, two_accounts: Source) -> None:
    good = chunked(START, BLOCK, STOP)
    origin.scripts = [*[answering(chunked(START, PING, OVERLOADED))] * 2, answering(good)]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call(body=BODY)
        record = await gate.records.last()
    assert (reply.status, reply.body, reply.complete) == (200, START + BLOCK + STOP, True)
    assert (record.error, record.attempts) == (None, 3)
    assert [one["plan"] for one in _steps(gate) if one["what"] == "answered"] == ["again", "sibling"]


async def test_an_overload_that_stays_reaches_the_client_as_it_came(origin: Origin) -> None:
    stream = START + PING + OVERLOADED
    origin.scripts = [answering(chunked(START, PING, OVERLOADED))]
    async with running_gate(one_account(origin.url)) as gate:
        reply = await gate.call(body=BODY)
        record = await gate.records.last()
    assert (reply.status, reply.body, reply.complete) == (200, stream, True)
    assert record.error == "overloaded_error"
    assert len(origin.seen) == 3


async def test_after_content_an_error_passes_and_nothing_is_sent_again(origin: Origin, two_accounts: Source) -> None:
    origin.scripts = [answering(chunked(START, BLOCK + OVERLOADED))]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call(body=BODY)
    assert reply.body == START + BLOCK + OVERLOADED
    assert len(origin.seen) == 1


async def test_a_stream_cut_before_its_content_may_have_been_paid_for(origin: Origin, two_accounts: Source) -> None:
    for script in (answering(chunked(START, end=b"")), answering(chunked(START))):
        origin.scripts, origin.seen = [script], []
        async with running_gate(two_accounts) as gate:
            reply = await gate.call(body=BODY)
        assert reply.status == 200
        assert reply.body.startswith(START + b"event: error\n")
        assert len(origin.seen) == 1


async def test_a_time_out_after_the_request_was_sent_is_not_tried_elsewhere(
    origin: Origin, two_accounts: Source
) -> None:
    async def silent(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    origin.scripts = [silent]
    async with running_gate(two_accounts, timeouts=Timeouts(first_byte=0.05)) as gate:
        reply = await gate.call()
    assert reply.status == 504
    assert "may be billed" in error_of(reply.body)["message"]
    assert len(origin.seen) == 1


@pytest.mark.parametrize("body", [b"content-length: 500\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\nff\r\n{"])
async def test_an_error_whose_body_is_cut_counts_by_its_status(
    origin: Origin, two_accounts: Source, body: bytes
) -> None:
    origin.scripts = [answering(b"HTTP/1.1 429 X\r\nretry-after: 30\r\n" + body), json_answer()]
    async with running_gate(two_accounts) as gate:
        replies = [await gate.call() for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 200]
    assert keys_of(origin) == [b"one", b"bob", b"bob"]


async def test_an_error_whose_body_is_cut_is_cut_for_the_client_if_no_account_is_left(
    origin: Origin, source: Source
) -> None:
    origin.scripts = [answering(b"HTTP/1.1 400 X\r\ncontent-length: 500\r\n\r\n{")]
    async with running_gate(source) as gate:
        reply = await gate.call()
    assert (reply.status, reply.body, reply.complete) == (400, b"{", False)


async def test_an_error_whose_body_does_not_come_counts_by_its_status_in_time(
    origin: Origin, two_accounts: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenferry.gateway.proxy.attempt.GATE_SECONDS", 0.1)

    async def silent(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 429 X\r\nretry-after: 30\r\ncontent-length: 500\r\n\r\n{")
        await reader.read()

    origin.scripts = [silent, json_answer()]
    async with running_gate(two_accounts) as gate:
        assert (await gate.call()).status == 200
    assert keys_of(origin) == [b"one", b"bob"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"code": 429, "message": "Rate limit exceeded: limit_rpm/x"}}',
        b'\n{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        b'{"id": "", "choices": null, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}',
    ],
)
@pytest.mark.parametrize("asked", [BODY, b'{"model":"claude-sonnet-4-5"}'])
async def test_an_error_document_with_status_200_is_answered_elsewhere(
    origin: Origin, two_accounts: Source, body: bytes, asked: bytes
) -> None:
    origin.scripts = [json_answer(body)] * (2 if b"overloaded" in body else 1) + [json_answer(b'{"n":1}')]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call(body=asked)
    assert (reply.status, reply.body, keys_of(origin)[-1]) == (200, b'{"n":1}', b"bob")


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "no such field", "code": 400}}',
        b'{"error": {"message": "cut',
        b'{"id": "x", "error": null}',
        b'{"base_resp": {"status_code": 0}}',
        b'{"promptFeedback": {}, "candidates": [{"content": {"parts": [{"text": "hi"}]}}]}',
        b"",
    ],
)
async def test_any_other_document_with_status_200_passes_unchanged(
    origin: Origin, two_accounts: Source, body: bytes
) -> None:
    origin.scripts = [json_answer(body)]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call()
    assert (reply.status, reply.body, len(origin.seen)) == (200, body, 1)


async def test_a_good_head_whose_body_never_begins_is_a_502(origin: Origin, two_accounts: Source) -> None:
    origin.scripts = [answering(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n")]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call()
    assert (reply.status, reply.complete, len(origin.seen)) == (502, True, 1)
    assert "may be billed" in error_of(reply.body)["message"]


async def test_a_stream_with_a_length_is_held_and_ends_truthfully_like_any_other(
    origin: Origin, two_accounts: Source
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    bad, good = START + OVERLOADED, START + BLOCK
    origin.scripts = [*[answering(head % len(bad) + bad)] * 2, answering(head % len(good) + good)]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call(body=BODY)
        record = await gate.records.last()
    assert reply.body.startswith(good + b"event: error\n")
    assert (keys_of(origin)[-1], record.usage.input) == (b"bob", 9)


async def test_a_gate_that_waits_long_enough_opens(
    origin: Origin, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenferry.gateway.proxy.attempt.GATE_SECONDS", 0.1)
    go = asyncio.Event()

    async def slow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(START, PING, end=b""))
        await go.wait()
        writer.write(chunked(BLOCK, STOP).removeprefix(HEAD))

    origin.scripts = [slow]
    async with running_gate(source) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(length=len(BODY)) + BODY)
        held = await reader.readuntil(PING)  # though no content has come
        assert held.startswith(b"HTTP/1.1 200 ")
        go.set()
        assert STOP in await reader.readuntil(b"0\r\n\r\n")


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_provider_that_fails_gives_way_to_the_next_one(status: int) -> None:
    async with running_origin() as first, running_origin() as second:
        first.scripts = [error(status, "api_error")]
        async with running_gate(two_providers(first, second), settings=ORDERED) as gate:
            reply = await gate.call()
            record = await gate.records.last()
    assert reply.status == 200
    assert (record.provider, record.account) == ("second", "bob")
    assert len(second.seen) == 1


async def test_a_provider_that_can_not_be_reached_gives_way(origin: Origin, closed_port: int) -> None:
    dead = Origin()
    dead.url = f"http://127.0.0.1:{closed_port}"
    async with running_gate(two_providers(dead, origin), settings=ORDERED) as gate:
        replies = [await gate.call() for _ in range(3)]
    assert [reply.status for reply in replies] == [200] * 3
    assert not gate.gateway.forwarder.pool.cooldowns  # nobody is benched for it


@pytest.mark.parametrize(("status", "kind"), [(400, "invalid_request_error"), (413, "request_too_large")])
async def test_a_request_that_is_wrong_anywhere_is_asked_once(
    origin: Origin, two_accounts: Source, status: int, kind: str
) -> None:
    origin.scripts = [error(status, kind)]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call()
    assert reply.status == status
    assert len(origin.seen) == 1


async def test_a_refused_key_gives_way_and_is_not_tried_again(origin: Origin, two_accounts: Source) -> None:
    origin.scripts = [error(401, "authentication_error"), json_answer()]
    async with running_gate(two_accounts) as gate:
        replies = [await gate.call() for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 200]
    assert keys_of(origin) == [b"one", b"bob", b"bob"]


async def test_a_refused_token_is_renewed_before_another_account_is_asked(origin: Origin) -> None:
    source = one_account(origin.url, token("old"), token("new"))
    source.known.append(Account("bob", "fake", "api-key"))
    source.results["bob"] = [api_key("bob")]
    source.is_warm = False
    origin.scripts = [error(401, "authentication_error"), error(401, "authentication_error"), json_answer()]
    async with running_gate(source) as gate:
        reply = await gate.call()
        record = await gate.records.last()
    assert reply.status == 200
    assert [seen.all(b"authorization") for seen in origin.seen] == [
        [b"Bearer sk-ant-oat01-old"],
        [b"Bearer sk-ant-oat01-new"],
        [],
    ]
    assert (record.account, record.attempts) == ("bob", 3)


async def test_a_token_that_a_stream_refuses_in_place_of_content_is_renewed(origin: Origin) -> None:
    revoked = "OAuth token has been revoked. Please obtain a new token."
    told = {"type": "error", "error": {"type": "permission_error", "message": revoked}}
    refused = b"event: error\ndata: " + json.dumps(told).encode() + b"\n\n"
    source = one_account(origin.url, token("old"), token("new"))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    origin.scripts = [answering(head + refused), json_answer()]
    async with running_gate(source) as gate:
        assert (await gate.call(body=BODY)).status == 200
    assert source.renewed == [("alice", token("old").secret)]


async def test_a_challenge_refuses_a_token_with_a_403(origin: Origin) -> None:
    source = one_account(origin.url, token("old"), token("new"))
    challenges = [b'www-authenticate: Bearer error="invalid_token"', b"www-authenticate: Basic realm=x"]
    origin.scripts = [json_answer(status=403, headers=challenges), json_answer()]
    async with running_gate(source) as gate:
        assert (await gate.call()).status == 200


async def test_requests_for_a_forbidden_model_never_renew(origin: Origin) -> None:
    origin.scripts = [error(403, "permission_error")]
    source = one_account(origin.url, token("old"), token("old"))
    async with running_gate(source) as gate:
        for _ in range(20):
            assert (await gate.call(body=BODY)).status in {403, 429, 503}
    assert not source.renewed


async def test_an_account_without_credit_is_known_by_a_compressed_body(origin: Origin, two_accounts: Source) -> None:
    told = {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}}
    body = gzip.compress(json.dumps(told).encode())
    origin.scripts = [json_answer(body, status=400, headers=[b"content-encoding: gzip"]), json_answer()]
    async with running_gate(two_accounts) as gate:
        assert (await gate.call()).status == 200
    origin.scripts = [json_answer(body, status=400, headers=[b"content-encoding: gzip"])]
    async with running_gate(one_account(origin.url, api_key())) as gate:
        reply = await gate.call()
    assert (reply.status, reply.body, reply.all(b"content-encoding")) == (400, body, [b"gzip"])


async def test_a_client_that_leaves_between_two_attempts_ends_it_and_starts_no_cooldown(
    origin: Origin, source: Source
) -> None:
    seen, gone = asyncio.Event(), asyncio.Event()

    async def overloaded(request: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await error(529, "overloaded_error", headers=[b"retry-after: 9"])(request, reader, writer)
        seen.set()
        await gone.wait()

    origin.scripts = [overloaded]
    async with running_gate(source) as gate:
        async with gate.open() as (_, writer):
            writer.write(gate.head(length=2) + b"{}")
            await seen.wait()
        gone.set()
        record = await gate.records.last()
        assert (record.status, record.error) == (499, "client_gone")
        assert gate.gateway.forwarder.pool.capacity.busy == {}
    assert len(origin.seen) == 1


async def test_caps_make_requests_wait_for_a_place_and_a_full_queue_says_so(origin: Origin, source: Source) -> None:
    go = asyncio.Event()
    asked = asyncio.Event()

    async def waiting(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go.wait()
        await json_answer()(seen, reader, writer)

    origin.scripts = [waiting]
    pool = Pool(PoolSettings(caps=Caps(max_concurrency=1), max_queue=1))
    async with (
        running_gate(source, pool=pool) as gate,
        gate.open() as (first_reader, first),
        gate.open() as (second_reader, second),
    ):
        first.write(gate.head(length=2) + b"{}")
        await asked.wait()
        second.write(gate.head(length=2) + b"{}")
        await queued(pool)
        refused = await gate.call()
        assert refused.status == 429
        assert refused.all(ERROR_MARK) == [b"at_capacity"]
        assert len(origin.seen) == 1
        go.set()
        assert (await read_reply(first_reader)).status == 200
        assert (await read_reply(second_reader)).status == 200
    assert pool.capacity.busy == {}


async def test_a_client_that_leaves_the_queue_leaves_its_place(origin: Origin, source: Source) -> None:
    go, asked = asyncio.Event(), asyncio.Event()

    async def waiting(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go.wait()
        await json_answer()(seen, reader, writer)

    origin.scripts = [waiting]
    pool = Pool(PoolSettings(caps=Caps(max_concurrency=1)))
    async with running_gate(source, pool=pool) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        await asked.wait()
        async with gate.open() as (_, leaving):
            leaving.write(gate.head(length=2) + b"{}")
            await queued(pool)
        await gate.records.last()
        assert not pool.waiting
        go.set()
        assert (await read_reply(reader)).status == 200
    assert len(origin.seen) == 1


@pytest.mark.parametrize("header", [b"x-claude-code-session-id", b"session-id"], ids=["Claude Code", "Codex"])
async def test_a_session_stays_with_its_account(origin: Origin, two_accounts: Source, header: bytes) -> None:
    pool = Pool(PoolSettings(strategy="round-robin"))
    async with running_gate(two_accounts, pool=pool) as gate:
        for session in (b"a", b"b", b"a", b"b", b"a"):
            await gate.call(headers=[(header, session)])
    assert keys_of(origin) == [b"one", b"bob", b"one", b"bob", b"one"]


async def test_a_declared_header_keeps_requests_together(origin: Origin, two_accounts: Source) -> None:
    pool = Pool(PoolSettings(strategy="round-robin", affinity_header="x-thread"))
    async with running_gate(two_accounts, pool=pool) as gate:
        for thread in (b"a", b"b", b"a", b"b"):
            await gate.call(headers=[(b"x-thread", thread)])
    assert keys_of(origin) == [b"one", b"bob", b"one", b"bob"]


async def test_a_pinned_account_is_the_only_one_asked(origin: Origin, two_accounts: Source) -> None:
    origin.scripts = [rejected()]
    async with running_gate(two_accounts, settings=RouterSettings(account="bob")) as gate:
        reply = await gate.call()
    assert reply.status == 429
    assert keys_of(origin) == [b"bob"]


async def test_limits_of_token_counting_start_no_cooldown_for_messages(origin: Origin, two_accounts: Source) -> None:
    origin.scripts = [rejected(), json_answer()]
    async with running_gate(two_accounts) as gate:
        await gate.call(b"/v1/messages/count_tokens")
        await gate.call()
    assert keys_of(origin) == [b"one", b"bob", b"one"]


async def test_compressed_streams_pass_ungated(origin: Origin, two_accounts: Source) -> None:
    body = b"\x1f\x8b" + OVERLOADED
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n"
    origin.scripts = [answering(head + body)]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call(body=BODY)
    assert reply.body == body
    assert len(origin.seen) == 1


async def test_an_error_too_large_to_hold_passes_as_it_comes(origin: Origin, source: Source) -> None:
    body = b"x" * (3 << 20)
    origin.scripts = [answering(b"HTTP/1.1 400 X\r\ncontent-length: %d\r\n\r\n" % len(body) + body)]
    async with running_gate(source) as gate:
        reply = await gate.call()
    assert (reply.status, reply.body, reply.complete) == (400, body, True)


async def test_a_missing_login_is_skipped_and_reported(origin: Origin, two_accounts: Source) -> None:
    two_accounts.results["alice"] = [NeedsLogin("account 'alice' needs a login")]
    origin.scripts = [rejected()]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call()
    message = error_of(reply.body)["message"]
    assert reply.status == 429
    assert "alice: account 'alice' needs a login" in message
    assert "bob: " in message


OUTCOMES = st.sampled_from(
    ["ok", "stream", "after-content", "overloaded-first", "cut-first", "cut-after", "limited", "529", "500", "401"]
)


async def test_nothing_is_sent_again_once_there_was_content_or_it_may_have_been_paid_for(two_accounts: Source) -> None:
    scripts: dict[str, Script] = {
        "ok": json_answer(),
        "stream": answering(chunked(START, BLOCK, STOP)),
        "after-content": answering(chunked(START, BLOCK, OVERLOADED)),
        "overloaded-first": answering(chunked(START, OVERLOADED)),
        "cut-first": answering(chunked(START, end=b"")),
        "cut-after": answering(chunked(START, BLOCK, end=b"")),
        "limited": rejected(),
        "529": error(529, "overloaded_error"),
        "500": error(500, "api_error"),
        "401": error(401, "authentication_error"),
    }
    final = {"ok", "stream", "after-content", "cut-first", "cut-after"}
    loop = asyncio.get_running_loop()

    async def check(outcomes: list[str]) -> None:
        async with running_origin() as origin:
            source = Source([Provider("fake", "fake", origin.url)], two_accounts.known)
            source.results = two_accounts.results
            origin.scripts = [scripts[outcome] for outcome in outcomes] + [scripts["ok"]]
            pool = Pool(rng=NoWait())
            async with running_gate(source, pool=pool) as gate:
                reply = await gate.call(body=BODY)
            told = [*outcomes, *itertools.repeat("ok", 10)][: len(origin.seen)]
            assert not set(told[:-1]) & final, (outcomes, told)
            if told[-1] in final:
                assert reply.status == 200
            if told[-1] in {"ok", "stream"}:
                assert b"error" not in reply.body
            assert pool.capacity.busy == {}

    @settings(max_examples=effort(40), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(OUTCOMES, max_size=5))
    def holds(outcomes: list[str]) -> None:
        asyncio.run_coroutine_threadsafe(check(outcomes), loop).result(60)

    await asyncio.to_thread(holds)


class NoWait(Random):
    """Chance by which nobody waits."""

    def uniform(self, a: float, b: float) -> float:  # the signature is Random's
        return 0.0


ORDERED = RouterSettings(providers=("first", "second"))


def two_providers(first: Origin, second: Origin) -> Source:
    source = Source(
        [Provider("first", "fake", first.url), Provider("second", "fake", second.url)],
        [Account("alice", "first", "api-key"), Account("bob", "second", "api-key")],
    )
    source.results |= {"alice": [api_key()], "bob": [api_key("bob")]}
    return source


def _steps(gate: Gate) -> list[dict[str, object]]:
    decision = gate.records.all[-1].decision
    assert decision is not None
    assert decision.trace is not None
    steps: list[dict[str, object]] = decision.trace.to_json()["steps"]
    return steps


async def test_an_error_too_large_to_hold_whose_rest_was_given_up_is_cut(origin: Origin, two_accounts: Source) -> None:
    """It was judged by its beginning, another account was asked, and could not even be used."""
    body = b"x" * (3 << 20)
    two_accounts.results["bob"] = [NeedsLogin("account 'bob' needs a login")]
    origin.scripts = [answering(b"HTTP/1.1 403 X\r\ncontent-length: %d\r\n\r\n" % len(body) + body)]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call()
        record = await gate.records.last()
    assert (reply.status, reply.complete) == (403, False)
    assert record.error == "upstream_closed"


async def test_a_name_that_now_means_another_provider_sends_no_credential_to_the_old_one(
    origin: Origin, source: Source
) -> None:
    """The account was replaced, under its name, while a request waited to be sent again."""

    async def replaced(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source.known = [Account("alice", "other", "api-key")]
        source.results["alice"] = [api_key("theirs")]
        await error(529, "overloaded_error")(seen, reader, writer)

    async with running_origin() as other:
        source.providers["other"] = Provider("other", "other", other.url)
        origin.scripts = [replaced, json_answer()]
        async with running_gate(source, pool=Pool(rng=NoWait())) as gate:
            reply = await gate.call()
    assert keys_of(origin) == [b"one"]
    assert (reply.status, reply.all(ERROR_MARK), reply.all(b"x-should-retry")) == (503, [b"config_changed"], [b"true"])


async def test_if_every_credential_is_refused_the_client_gets_no_retry_after(
    origin: Origin, two_accounts: Source
) -> None:
    origin.scripts = [error(401, "authentication_error")]
    async with running_gate(two_accounts) as gate:
        replies = [await gate.call() for _ in range(2)]
    assert [reply.status for reply in replies] == [401, 503]
    assert len(origin.seen) == 2
    last = replies[-1]
    assert last.all(ERROR_MARK) == [b"no_usable_account"]
    assert (last.all(b"x-should-retry"), last.all(b"retry-after")) == ([b"false"], [])
    message = error_of(last.body)["message"]
    assert "alice: the credential was refused" in message
    assert "bob: the credential was refused" in message
    assert message.endswith("tokenferry login NAME, or store another key")
