"""What is recorded of each request, from the first byte to however it ends."""

import asyncio
import math

import pytest

from gateway.rig import Gate, Headers, Origin, Seen, Source, answering, json_answer, one_account, running_gate, token
from tokenferry.errors import NeedsLogin
from tokenferry.gateway import ERROR_MARK, REQUEST_ID
from tokenferry.gateway.proxy.attempt import AttemptRunner
from tokenferry.gateway.telemetry.access_log import LogLine
from tokenferry.streaming import TokenUsage
from tokenferry.wire import BYTES_PER_TOKEN

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-answers","usage":'
    b'{"input_tokens":9,"output_tokens":1}}}\n\n'
)
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"error \xe2\x9b\xb4"}}\n\n'
USAGE = b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":30}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'
CUT = TokenUsage(9, 2, is_estimated=True)
"""Of START and DELTA: seven characters."""
BODY = b'{"model":"claude-sonnet-4-5","stream":true}'


def chunked(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


async def test_an_answer_is_recorded_in_full(gate: Gate, origin: Origin) -> None:
    answer = b'{"model":"claude-answers","usage":{"input_tokens":5,"output_tokens":7}}'
    origin.scripts = [json_answer(answer)]
    reply = await gate.call(
        b"/v1/messages?beta=true",
        [
            (b"x-claude-code-session-id", b"0f7c-1"),
            (b"X-Claude-Code-Agent-Id", b"agent-2"),
            (b"x-claude-code-parent-agent-id", b"agent-1"),
        ],
        BODY,
    )
    record = await gate.records.last()
    assert reply.all(REQUEST_ID) == [record.request_id.encode()]
    assert (record.method, record.path, record.status, record.upstream_status) == ("POST", "/v1/messages", 200, 200)
    assert (record.client, record.account, record.provider) == ("one-off", "alice", "fake")
    assert record.model == "claude-sonnet-4-5"
    assert record.usage == TokenUsage(5, 7)
    assert (record.session, record.agent, record.parent_agent) == ("0f7c-1", "agent-2", "agent-1")
    assert (record.bytes_in, record.bytes_out) == (len(BODY), len(answer))
    assert (record.attempts, record.error) == (1, None)
    assert record.first_byte is not None
    assert 0 < record.first_byte <= record.duration
    names = {name for name, _ in origin.seen[-1].headers}
    assert {b"x-claude-code-session-id", b"x-claude-code-agent-id", b"x-claude-code-parent-agent-id"} <= names


async def test_a_stream_is_recorded_with_its_tokens(gate: Gate, origin: Origin) -> None:
    origin.scripts = [answering(chunked(START, DELTA, USAGE, STOP))]
    reply = await gate.call(body=b"{}")
    record = await gate.records.last()
    assert reply.body == START + DELTA + USAGE + STOP
    assert (record.model, record.usage, record.error) == ("claude-answers", TokenUsage(9, 30), None)
    assert record.bytes_out == len(reply.body)


async def test_a_compressed_answer_passes_untouched_and_unread(gate: Gate, origin: Origin) -> None:
    body = b"\x1f\x8b not really"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
    origin.scripts = [answering(head % len(body) + body)]
    reply = await gate.call(body=BODY)
    assert (reply.body, reply.all(b"content-encoding"), reply.complete) == (body, [b"gzip"], True)
    usage = (await gate.records.last()).usage
    assert (usage.output, usage.is_estimated) == (None, True)
    assert usage.input


async def test_an_error_event_passes_as_it_is_and_ends_the_stream(gate: Gate, origin: Origin) -> None:
    lost = asyncio.Event()

    async def goes_on(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(START, DELTA, OVERLOADED + DELTA + STOP, end=b""))
        await reader.read()
        lost.set()

    origin.scripts = [goes_on]
    reply = await gate.call(body=BODY)
    await asyncio.wait_for(lost.wait(), 20)
    assert (reply.body, reply.complete) == (START + DELTA + OVERLOADED, True)
    record = await gate.records.last()
    assert (record.status, record.error, record.usage) == (200, "overloaded_error", CUT)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (chunked(START, DELTA), "truncated"),
        (chunked(START, DELTA, b"event: message_stop\nda"), "truncated"),
        (chunked(START, DELTA, end=b""), "upstream_cut"),
        (chunked(START, DELTA, b"event: message_stop\nda", end=b""), "upstream_cut"),
    ],
)
async def test_a_truncated_stream_ends_in_an_error_and_never_in_a_stop(
    gate: Gate, origin: Origin, raw: bytes, error: str
) -> None:
    origin.scripts = [answering(raw)]
    reply = await gate.call(body=BODY)
    assert reply.complete
    assert reply.body.startswith(START + DELTA + b'event: error\ndata: {"type": "error", "error": {"type": "api_error"')
    assert reply.body.endswith(b"}\n\n")
    assert b"message_stop" not in reply.body.removeprefix(START).split(b'"message"')[0]
    record = await gate.records.last()
    assert (record.error, record.usage) == (error, CUT)


@pytest.mark.parametrize("delta", [b"", USAGE, USAGE.replace(b"30", b"0")])
async def test_what_a_client_that_left_has_received_is_estimated_unless_it_was_counted(
    gate: Gate, origin: Origin, delta: bytes
) -> None:
    async def goes_on(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(START, DELTA + delta, end=b""))
        await reader.read()

    origin.scripts = [goes_on]
    async with gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        await reader.readuntil((DELTA + delta)[-20:])
    record = await gate.records.last()
    assert (record.status, record.served_model) == (499, "claude-answers")
    assert record.usage == ({b"": CUT, USAGE: TokenUsage(9, 30)}.get(delta) or TokenUsage(9, 1))


async def test_a_client_that_left_before_the_first_content_has_used_its_input(
    gate: Gate, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def goes_on(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(START, end=b""))
        await reader.read()

    def hold(runner: AttemptRunner, chunk: bytes) -> None:
        held(runner, chunk)
        begun.set()

    held = AttemptRunner.on_body
    monkeypatch.setattr(AttemptRunner, "on_body", hold)
    origin.scripts = [goes_on]
    async with gate.open() as (_, writer):
        writer.write(gate.head(length=len(BODY)) + BODY)
        await asyncio.wait_for(begun.wait(), 20)
    record = await gate.records.last()
    assert (record.status, record.usage.is_estimated) == (499, True)
    assert record.usage.input == math.ceil(len(BODY) / BYTES_PER_TOKEN)


async def test_a_whole_message_whose_framing_is_cut_is_whole(gate: Gate, origin: Origin) -> None:
    origin.scripts = [answering(chunked(START, USAGE, STOP, end=b""))]
    reply = await gate.call(body=BODY)
    assert (reply.body, reply.complete) == (START + USAGE + STOP, True)
    assert (await gate.records.last()).error is None


async def test_an_upstream_s_error_passes_and_its_type_is_recorded(gate: Gate, origin: Origin) -> None:
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"},"request_id":"req_1"}'
    origin.scripts = [json_answer(body, status=429, headers=[b"retry-after: 7", b"x-should-retry: true"])]
    reply = await gate.call(body=BODY)
    assert (reply.status, reply.body) == (429, body)
    assert (reply.all(b"retry-after"), reply.all(b"x-should-retry")) == ([b"7"], [b"true"])
    assert not reply.all(ERROR_MARK)
    record = await gate.records.last()
    assert (record.status, record.upstream_status, record.error) == (429, 429, "rate_limit_error")


async def test_a_page_of_an_upstream_is_never_a_page_of_ours(gate: Gate, origin: Origin) -> None:
    page = b"<html><script>alert(1)</script></html>"
    head = b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: Text/HTML; charset=utf-8\r\ncontent-length: %d\r\n\r\n"
    origin.scripts = [answering(head % len(page) + page)]
    reply = await gate.call(body=BODY)
    assert (reply.status, reply.body) == (502, page)
    assert reply.all(b"content-type") == [b"text/plain; charset=utf-8"]
    assert (await gate.records.last()).error == "upstream_error"


async def test_a_second_attempt_is_counted(origin: Origin) -> None:
    origin.scripts = [json_answer(b"{}", status=401), json_answer()]
    async with running_gate(one_account(origin.url, token("old"), token("new"))) as gate:
        await gate.call(body=BODY)
        record = await gate.records.last()
    assert (record.attempts, record.status, record.upstream_status) == (2, 200, 200)


@pytest.mark.parametrize(
    ("target", "headers", "status", "error"),
    [
        (b"/v1/messages", [(b"x-api-key", b"wrong")], 401, "authentication_error"),
        (b"/v1/nowhere", [], 404, "not_found_error"),
        (b"/v1/messages", [(b"origin", b"https://evil.example")], 403, "permission_error"),
        (b"/v1/messages", [(b"host", b"evil.example")], 421, "invalid_request_error"),
    ],
)
async def test_refusals_are_recorded_and_say_whose_they_are(
    gate: Gate, target: bytes, headers: Headers, status: int, error: str
) -> None:
    reply = await gate.call(target, headers, BODY)
    record = await gate.records.last()
    assert (reply.status, record.status, record.upstream_status, record.error) == (status, status, None, error)
    assert reply.all(ERROR_MARK) == [error.encode()]
    assert reply.all(REQUEST_ID) == [record.request_id.encode()]
    assert len(reply.all(b"x-should-retry")) == 1


async def test_a_fault_s_cause_is_recorded(origin: Origin, two_accounts: Source) -> None:
    async with running_gate(one_account(origin.url, NeedsLogin("log in"))) as gate:
        reply = await gate.call()
        assert reply.all(ERROR_MARK) == [b"needs_login"]
        record = await gate.records.last()
    assert (record.status, record.error, record.provider, record.attempts) == (503, "needs_login", "fake", 0)


async def test_no_header_injects_anything_into_the_log(gate: Gate) -> None:
    evil = b"a\tstatus=200 \x80\xff"
    await gate.call(
        b"/v1/messages/%0d%0astatus=200",
        [(b"x-claude-code-session-id", evil), (b"x-claude-code-agent-id", b"sk-ant-api03-hush")],
        b'{"model":"x\\u000astatus=200"}',
    )
    await gate.call(headers=[(b"x-claude-code-session-id", evil)], body=b'{"model":"claude \x1b[31m"}')
    lines = [str(LogLine(record)) for record in gate.records.all]
    assert [line.count(" status=") for line in lines] == [1, 1]
    assert all(line.isprintable() and line.isascii() for line in lines)
    assert not any("hush" in line or "session" in line or "model" in line for line in lines)


async def test_probes_are_recorded_without_a_client(gate: Gate) -> None:
    await gate.call(b"/api/hello", [(b"x-api-key", b"")], method=b"HEAD")
    record = await gate.records.last()
    assert (record.method, record.path, record.status, record.client) == ("HEAD", "/api/hello", 200, None)


async def test_a_burst_of_token_counts_is_answered(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(b'{"input_tokens":3}')]
    target = b"/v1/messages/count_tokens?beta=true"
    replies = await asyncio.gather(*(gate.call(target, body=BODY) for _ in range(25)))
    assert [reply.body for reply in replies] == [b'{"input_tokens":3}'] * 25
    assert {seen.target for seen in origin.seen} == {target}
    assert all(record.usage == TokenUsage() for record in gate.records.all)


async def test_models_are_listed_for_discovery(gate: Gate, origin: Origin) -> None:
    listing = b'{"data":[{"type":"model","id":"claude-opus-4-5","display_name":"Claude Opus 4.5"}],"has_more":false}'
    origin.scripts = [json_answer(listing)]
    reply = await gate.call(b"/v1/models?limit=1000", method=b"GET")
    assert (reply.status, reply.body) == (200, listing)
    assert origin.seen[-1].target == b"/v1/models?limit=1000"


async def test_an_invalid_request_is_recorded_under_the_id_in_its_answer(gate: Gate) -> None:
    reply = await gate.raw(b"NONSENSE\r\n\r\n")
    record = await gate.records.last()
    assert (reply.status, record.status, record.error) == (400, 400, "invalid_request_error")
    assert reply.all(REQUEST_ID) == [record.request_id.encode()]


async def test_a_request_for_which_there_is_no_room_is_recorded(source: Source) -> None:
    async with running_gate(source, connections=0) as gate:
        reply = await gate.call()
        record = await gate.records.last()
    assert (reply.status, record.status, record.error) == (503, 503, "too_many_connections")
    assert reply.all(ERROR_MARK) == [b"too_many_connections"]


async def test_ended_requests_are_counted_and_logged_at_a_scrape_or_at_the_gateways_end(
    origin: Origin, two_accounts: Source
) -> None:
    """Requests are taken down some at a time; none is missing where it is looked for."""
    async with running_gate(one_account(origin.url)) as gate:
        for _ in range(3):
            assert (await gate.call()).status == 200
        assert gate.gateway.statistics().served == 3
        assert [record.status for record in gate.records.all] == [200, 200, 200]
        await gate.call()
    gate.records.settle = lambda: None
    assert len(gate.records.all) == 4
