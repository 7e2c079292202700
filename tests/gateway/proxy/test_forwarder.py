"""What passes through the gateway, byte for byte, and what is done when the upstream does not play along."""

import asyncio
import itertools
import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from effort import effort
from gateway.rig import (
    Gate,
    Origin,
    Seen,
    Source,
    answering,
    api_key,
    error_of,
    json_answer,
    one_account,
    running_gate,
    token,
)
from tokenferry.anthropic_beta import OAUTH_BETA
from tokenferry.credentials import SetupToken
from tokenferry.errors import (
    CredentialRefused,
    NeedsLogin,
    PolicyRefused,
    RefreshBusy,
    RefreshFailed,
    StorageFailed,
    TokenferryError,
)
from tokenferry.gateway import ERROR_MARK, REQUEST_ID
from tokenferry.gateway.telemetry.access_log import LogLine
from tokenferry.providers import Provider
from tokenferry.secret import Secret
from tokenferry.settings import RouterSettings
from tokenferry.upstream import Timeouts

pytestmark = pytest.mark.anyio


async def test_an_answer_passes_with_its_status_headers_and_body(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(b'{"a":1}', status=418, headers=[b"x-thing: 1", b"x-thing: 2", b"date: today"])]
    reply = await gate.call()
    assert (reply.status, reply.body) == (418, b'{"a":1}')
    assert reply.all(b"x-thing") == [b"1", b"2"]
    assert reply.all(b"date") == [b"today"]
    assert len(reply.all(REQUEST_ID)) == 1
    assert not reply.all(ERROR_MARK)
    assert not reply.all(b"server")


async def test_bodies_and_queries_pass_byte_for_byte_however_they_are_cut(origin: Origin) -> None:
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=1024)
    long = st.builds(lambda seed: seed * 40_000, st.text('aä⛴\n"', min_size=1, max_size=12))
    blanks = st.text(" \t\r\n", max_size=9)
    bodies = st.builds(
        lambda text, before, after, is_ascii: (
            f'{before}{{"a":{json.dumps(text, ensure_ascii=is_ascii)}}}{after}'.encode()
        ),
        texts | long,
        blanks,
        blanks,
        st.booleans(),
    )
    queries = st.from_regex(rb"\A(\?[!-\"$-~]{0,40})?\Z")

    async with running_gate(one_account(origin.url)) as gate:
        loop = asyncio.get_running_loop()

        async def check(body: bytes, query: bytes, cuts: list[int], *, chunked: bool) -> None:
            framing = [(b"transfer-encoding", b"chunked")] if chunked else []
            places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
            pieces = [body[start:end] for start, end in itertools.pairwise(places)]
            if chunked:
                pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece] + [b"0\r\n\r\n"]
            reply = await gate.raw(gate.head(b"/v1/messages" + query, framing, length=len(body)), *pieces)
            assert reply.status == 200
            assert origin.seen[-1].body == body
            assert origin.seen[-1].target == b"/v1/messages" + query

        @settings(max_examples=effort(60), deadline=None, suppress_health_check=list(HealthCheck))
        @given(bodies, queries, st.lists(st.integers(0, 2_000_000), max_size=4), st.booleans())
        def holds(body: bytes, query: bytes, cuts: list[int], chunked: bool) -> None:  # noqa: FBT001  # drawn
            asyncio.run_coroutine_threadsafe(check(body, query, cuts, chunked=chunked), loop).result(60)

        await asyncio.to_thread(holds)
        await check(
            json.dumps({"a": "".join(map(chr, range(1, 256))) * 9_000}).encode(),
            b"?beta=true",
            [1, 65_536, 1_000_000],
            chunked=False,
        )
    assert gate.gateway.statistics().held_bytes == 0


async def test_exactly_one_credential_goes_up(gate: Gate, origin: Origin) -> None:
    await gate.call(headers=[(b"authorization", b"Bearer " + gate.key), (b"x-api-key", gate.key), (b"cookie", b"a=b")])
    seen = origin.seen[-1]
    assert seen.all(b"x-api-key") == [b"sk-ant-api03-one"]
    assert not seen.all(b"authorization")
    assert not seen.all(b"cookie")
    assert gate.key not in b"".join(name + value for name, value in seen.headers)


async def test_a_refused_token_is_renewed_and_the_request_sent_once_more(origin: Origin) -> None:
    source = one_account(origin.url, token("old"), token("new"))
    origin.scripts = [json_answer(b"{}", status=401), json_answer()]
    async with running_gate(source) as gate:
        reply = await gate.call(body=b'{"precious":1}')
    assert (reply.status, reply.body) == (200, b'{"ok":true}')
    assert [seen.all(b"authorization") for seen in origin.seen] == [
        [b"Bearer sk-ant-oat01-old"],
        [b"Bearer sk-ant-oat01-new"],
    ]
    assert [seen.body for seen in origin.seen] == [b'{"precious":1}', b'{"precious":1}']
    assert all(seen.all(b"anthropic-beta") == [OAUTH_BETA.encode()] for seen in origin.seen)
    assert source.renewed == [("alice", token("old").secret)]
    assert not source.invalidated


@pytest.mark.parametrize(
    ("fault", "retry_after"),
    [(RefreshFailed("HTTP 500", retry_after=7.5), b"8"), (RefreshBusy("held"), b"2"), (StorageFailed("full"), b"10")],
)
async def test_a_passing_failure_of_a_renewal_is_answered_as_such(
    origin: Origin, fault: TokenferryError, retry_after: bytes
) -> None:
    """The refused token is handed out no more, and the account serves again once its renewal goes well."""
    source = one_account(origin.url, token("old"), fault, token("new"))
    origin.scripts = [json_answer(b"no such token", status=401, headers=[b"x-should-retry: true"]), json_answer()]
    async with running_gate(source) as gate:
        reply, again = [await gate.call() for _ in range(2)]
    assert (reply.status, reply.all(b"retry-after"), reply.all(b"x-should-retry")) == (503, [retry_after], [b"true"])
    assert b"log in" not in reply.body
    assert source.invalidated == [("alice", token("old").secret)]
    assert again.status == 200


async def test_a_passing_failure_of_a_renewal_lets_the_next_account_serve(origin: Origin) -> None:
    source = one_account(origin.url, token("old"), RefreshFailed("HTTP 500", retry_after=7.5))
    source.known.append(replace(source.known[0], name="bob"))
    source.results["bob"] = [token("bobs")]
    origin.scripts = [json_answer(status=401), json_answer()]
    async with running_gate(source) as gate:
        assert (await gate.call()).status == 200
    assert [seen.all(b"authorization")[0][-4:] for seen in origin.seen] == [b"-old", b"bobs"]


async def test_a_side_route_s_passing_failure_of_a_renewal_keeps_the_token_for_messages(origin: Origin) -> None:
    source = one_account(origin.url, token("old"), RefreshFailed("HTTP 500", retry_after=7.5), token("old"))
    origin.scripts = [json_answer(status=401), json_answer()]
    async with running_gate(source) as gate:
        assert (await gate.call(b"/v1/messages/count_tokens")).status == 503
        assert (await gate.call()).status == 200
    assert not source.invalidated


@pytest.mark.parametrize("second", [token("old"), CredentialRefused("alice is refused"), NeedsLogin("dead")])
async def test_a_refused_token_without_another_passes_the_answer_on(
    origin: Origin, second: object, caplog: pytest.LogCaptureFixture
) -> None:
    source = one_account(origin.url, token("old"), second)  # type: ignore[arg-type]  # parametrize loses the union
    origin.scripts = [json_answer(b"no such token", status=401, headers=[b"x-should-retry: true"])]
    async with running_gate(source) as gate:
        reply = await gate.call()
    assert (reply.status, reply.body) == (401, b"no such token")
    assert reply.all(b"x-should-retry") == [b"false"]
    assert not reply.all(ERROR_MARK)
    assert len(origin.seen) == 1
    assert "account alice: its token was refused" in caplog.text
    assert "sk-ant" not in caplog.text


async def test_a_second_refusal_passes_and_is_not_tried_again(origin: Origin) -> None:
    source = one_account(origin.url, token("old"), token("new"), token("newer"))
    origin.scripts = [json_answer(b"1", status=401), json_answer(b"2", status=401)]
    async with running_gate(source) as gate:
        reply = await gate.call()
    assert (reply.status, reply.body, len(origin.seen)) == (401, b"2", 2)


@pytest.mark.parametrize(
    ("credential", "status"),
    [
        (api_key(), 401),
        (SetupToken(Secret("sk-ant-oat01-" + "s" * 80)), 401),
        (token("any"), 403),
    ],
)
async def test_what_can_not_be_renewed_is_not(origin: Origin, credential: object, status: int) -> None:
    source = one_account(origin.url, credential)  # type: ignore[arg-type]  # parametrize loses the union
    origin.scripts = [json_answer(b"refused", status=status)]
    async with running_gate(source) as gate:
        reply = await gate.call()
    assert (reply.status, reply.body) == (status, b"refused")
    assert source.invalidated == []
    assert len(origin.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_neither_followed_nor_passed(gate: Gate, origin: Origin, status: int) -> None:
    origin.scripts = [json_answer(b"", status=status, headers=[b"location: http://127.0.0.1:1/elsewhere"])]
    reply = await gate.call()
    assert reply.status == 502
    assert not reply.all(b"location")
    assert "redirect" in error_of(reply.body)["message"]
    assert reply.all(b"x-should-retry") == [b"false"]
    assert len(origin.seen) == 1


async def test_an_unreachable_upstream_is_named_and_nothing_was_sent(closed_port: int) -> None:
    async with running_gate(one_account(f"http://127.0.0.1:{closed_port}")) as gate:
        reply = await gate.call()
    assert reply.status == 502
    message = error_of(reply.body)["message"]
    assert f"no provider can be reached (fake: No connection to 127.0.0.1:{closed_port}" in message
    assert "nothing was sent; check the local network" in message
    assert reply.all(b"x-should-retry") == [b"true"]
    assert reply.all(ERROR_MARK) == [b"local_network"]


async def test_a_silent_upstream_is_a_504(origin: Origin) -> None:
    async def silent(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    origin.scripts = [silent]
    async with running_gate(one_account(origin.url), timeouts=Timeouts(first_byte=0.05)) as gate:
        reply = await gate.call()
    assert reply.status == 504
    assert error_of(reply.body)["type"] == "timeout_error"


async def test_a_cut_before_the_head_is_a_502(gate: Gate, origin: Origin) -> None:
    origin.scripts = [answering(b"HTTP/1.1 200 OK\r\ncontent-le")]
    reply = await gate.call()
    assert reply.status == 502
    assert error_of(reply.body)["type"] == "api_error"


async def test_the_next_account_is_asked_while_nothing_is_sent(origin: Origin, two_accounts: Source) -> None:
    two_accounts.results = {"alice": [NeedsLogin("alice must log in")], "bob": [api_key("bob")]}
    async with running_gate(two_accounts) as gate:
        reply = await gate.call()
    assert reply.status == 200
    assert origin.seen[-1].all(b"x-api-key") == [b"sk-ant-api03-bob"]


async def test_every_account_that_could_not_serve_is_listed_with_its_reason(
    origin: Origin, two_accounts: Source
) -> None:
    two_accounts.results = {
        "alice": [NeedsLogin("alice must log in")],
        "bob": [RefreshBusy("bob waits", retry_after=7)],
    }
    async with running_gate(two_accounts) as gate:
        reply = await gate.call()
    assert reply.status == 503
    assert reply.all(b"retry-after") == [b"7"]
    assert reply.all(b"x-should-retry") == [b"true"]
    message = error_of(reply.body)["message"]
    assert "alice must log in" in message
    assert "bob waits" in message
    assert origin.seen == []


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (NeedsLogin("log in"), 503, "api_error"),
        (PolicyRefused("not allowed"), 403, "permission_error"),
        (CredentialRefused("refused"), 503, "api_error"),
    ],
)
async def test_a_fault_that_only_a_person_can_fix_is_not_tried_again(
    origin: Origin, fault: NeedsLogin, status: int, kind: str
) -> None:
    async with running_gate(one_account(origin.url, fault)) as gate:
        reply = await gate.call()
    assert (reply.status, error_of(reply.body)["type"]) == (status, kind)
    assert error_of(reply.body)["message"] == str(fault)
    assert reply.all(b"x-should-retry") == [b"false"]


async def test_without_accounts_the_answer_names_the_command(origin: Origin) -> None:
    source = one_account(origin.url)
    source.known = []
    async with running_gate(source) as gate:
        reply = await gate.call()
    assert reply.status == 503
    assert "tokenferry account add NAME --provider anthropic" in error_of(reply.body)["message"]


async def test_an_account_that_another_provider_lends_serves(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """As claude-code-mux's `oauth_provider` names a login, whatever the provider is called that uses it."""
    monkeypatch.setattr(Provider, "is_at_vendor", property(lambda _: True))
    source = one_account(origin.url)
    source.providers["borrower"] = replace(source.providers["fake"], name="borrower", accounts=("alice",))
    async with running_gate(source, settings=RouterSettings(providers=("borrower",))) as gate:
        assert (await gate.call()).status == 200
    assert origin.seen[-1].all(b"x-api-key") == [api_key().secret.reveal().encode()]


async def test_limits_pass_only_to_the_client_that_they_concern(origin: Origin, two_accounts: Source) -> None:
    private = [b"anthropic-ratelimit-unified-status: allowed", b"anthropic-organization-id: o", b"retry-after: 3"]
    origin.scripts = [json_answer(headers=private)]
    async with running_gate(one_account(origin.url)) as gate:
        alone = await gate.call()
    async with running_gate(two_accounts) as gate:
        shared = await gate.call()
    assert alone.all(b"anthropic-ratelimit-unified-status") == [b"allowed"]
    assert alone.all(b"anthropic-organization-id") == [b"o"]
    assert not shared.all(b"anthropic-ratelimit-unified-status")
    assert not shared.all(b"anthropic-organization-id")
    assert shared.all(b"retry-after") == [b"3"]


@pytest.mark.parametrize("coding", [b"br", b"zstd"])
async def test_an_error_that_cannot_be_read_is_judged_by_its_status_and_passes_untouched(
    origin: Origin, two_accounts: Source, coding: bytes
) -> None:
    body = b"\x8b\x05\x80your credit balance is too low\x03"
    origin.scripts = [
        json_answer(body, status=status, headers=[b"content-encoding: " + coding]) for status in (400, 401, 401)
    ]
    async with running_gate(two_accounts) as gate:
        reply = await gate.call()
        assert (reply.status, reply.body, reply.all(b"content-encoding")) == (400, body, [coding])
        assert origin.seen[0].all(b"accept-encoding") == [b"identity"]
        assert not gate.gateway.forwarder.pool.cooldowns
        reply = await gate.call()
        assert (reply.status, reply.body) == (401, body)
        assert len(origin.seen) == 3  # a refused key goes to the next account, whatever the body says


async def test_models_pass_and_may_be_compressed(gate: Gate, origin: Origin) -> None:
    reply = await gate.call(b"/v1/models/claude-x?limit=5", [(b"accept-encoding", b"gzip")], method=b"GET")
    assert reply.status == 200
    assert (origin.seen[-1].method, origin.seen[-1].target) == ("GET", b"/v1/models/claude-x?limit=5")
    assert origin.seen[-1].all(b"accept-encoding") == [b"gzip"]


async def test_not_modified_passes(gate: Gate, origin: Origin) -> None:
    origin.scripts = [answering(b"HTTP/1.1 304 Not Modified\r\netag: 1\r\ncontent-length: 100\r\n\r\n")]
    reply = await gate.call(b"/v1/models", [(b"if-none-match", b"1")], method=b"GET")
    assert (reply.status, reply.body, reply.all(b"etag")) == (304, b"", [b"1"])


async def test_a_failure_of_our_own_is_a_500_without_details_or_secrets(
    origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    source = one_account(origin.url)
    source.results["alice"] = []
    async with running_gate(source) as gate:
        reply = await gate.call(headers=[(b"x-api-key", gate.key), (b"authorization", b"Bearer hush-hush")])
        key = gate.key.decode()
    assert reply.status == 500
    assert "log gives the cause" in error_of(reply.body)["message"]
    assert reply.all(b"x-should-retry") == [b"false"]
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    traceback = record.exc_info[2]
    while traceback is not None:
        for name, value in traceback.tb_frame.f_locals.items():
            assert key not in repr(value), name
            assert "hush-hush" not in repr(value), name
        traceback = traceback.tb_next


async def test_what_is_logged_holds_no_query_and_no_secret(
    gate: Gate, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await gate.call(b"/v1/messages?token=hush")
    told = caplog.text + str(LogLine(await gate.records.last()))
    assert "path=/v1/messages status=200" in told
    assert "hush" not in told
    assert gate.key.decode() not in told
    assert "sk-ant" not in told
