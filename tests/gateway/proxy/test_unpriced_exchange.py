"""Embeddings, files and batches: what passes in its own format, for keys that no limit holds back."""

import json
from collections.abc import AsyncIterator

import pytest

from gateway.proxy.test_chat_clients import error_in
from gateway.proxy.test_chat_clients import source as _source
from gateway.rig import Gate, Origin, Reply, Source, error_of, json_answer, running_gate, running_origin, token
from tokenferry.budgets import Budget
from tokenferry.gateway.telemetry.access_log import LogLine
from tokenferry.gateway.telemetry.usage_log import ledger_entry
from tokenferry.providers import Provider
from tokenferry.routing import Router
from tokenferry.settings import BudgetSettings, RouterSettings
from tokenferry.state import ClientKey, Rights

pytestmark = pytest.mark.anyio

source = _source
EMBEDDED = b'{"object":"list","data":[],"usage":{"prompt_tokens":9,"total_tokens":9}}'
VERSION = (b"anthropic-version", b"2023-06-01")
KEY = "tfk_" + "k" * 43


@pytest.fixture
async def native() -> AsyncIterator[Origin]:
    async with running_origin() as other:
        yield other


class Guest:
    """A client key whose rights each test says."""

    rights = Rights()

    def verify(self, secret: str) -> ClientKey | None:
        if secret != KEY:
            return None
        return ClientKey("k_1", "guest", "client", created_at=0, fingerprint="f", rights=self.rights)

    def expired(self, secret: str) -> ClientKey | None:
        return None

    def is_away(self) -> bool:
        return False

    def is_sole(self) -> bool:
        return True


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
async def gate(source: Source, origin: Origin, guest: Guest) -> AsyncIterator[Gate]:
    origin.scripts = [json_answer(EMBEDDED)]
    router = Router(RouterSettings(), (), source.providers)
    async with running_gate(source, router=router, keys=guest, key=KEY) as gate:
        yield gate


async def embed(gate: Gate, model: str = "chat/embed-3") -> Reply:
    return await gate.call(b"/v1/embeddings", None, json.dumps({"model": model, "input": "x"}).encode())


async def test_embeddings_pass_to_an_upstream_of_their_format_and_count_nothing(
    gate: Gate, guest: Guest, origin: Origin
) -> None:
    reply = await embed(gate)
    assert (reply.status, reply.body) == (200, EMBEDDED)
    assert (origin.seen[0].target, json.loads(origin.seen[0].body)["model"]) == (b"/v1/embeddings", "embed-3")
    record = await gate.records.last()
    assert (record.usage.input, record.usage.output) == (None, None)
    assert str(LogLine(record)).endswith(" usage=unpriced")
    assert LogLine(record).fields()["usage"] == "unpriced"
    entry = ledger_entry(lambda *_: "metered", record)
    assert (entry.billing, entry.is_side, entry.model) == ("unpriced", True, "embed-3")


async def test_at_an_upstream_of_another_format_they_are_refused(gate: Gate, guest: Guest, native: Origin) -> None:
    reply = await embed(gate, "native/embed")
    assert (reply.status, error_in(reply)["code"]) == (400, None)
    assert "/embeddings" in error_in(reply)["message"]
    assert native.seen == []


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (b"POST /v1/messages/batches?beta=true", b'{"requests":[]}'),
        (b"GET /v1/messages/batches/msgbatch_1/results", b""),
        (b"DELETE /v1/messages/batches/msgbatch_1", b""),
        (b"POST /v1/files", b'--b\r\ncontent-disposition: form-data; name="file"\r\n\r\nx\r\n--b--'),
        (b"GET /v1/files?limit=2", b""),
    ],
)
async def test_what_an_account_stores_passes_for_a_key_that_is_pinned_to_it(
    gate: Gate, guest: Guest, native: Origin, line: bytes, body: bytes
) -> None:
    method, path = line.split()
    guest.rights = Rights(pin="n")
    kind = (b"content-type", b"multipart/form-data; boundary=b")
    reply = await gate.call(path, [VERSION, kind] if body.startswith(b"--") else [VERSION], body, method=method)
    assert (reply.status, reply.body) == (200, b'{"ok":true}')
    seen = native.seen[0]
    assert (seen.method.encode(), seen.target, seen.body) == (method, path, body)
    assert seen.all(b"x-api-key") == [b"sk-ant-api03-one"]
    assert (await gate.records.last()).is_unpriced


async def test_files_of_openai_go_to_an_account_there(gate: Gate, guest: Guest, origin: Origin) -> None:
    guest.rights = Rights(pin="c")
    reply = await gate.call(b"/v1/files", method=b"GET")
    assert (reply.status, origin.seen[0].target) == (200, b"/v1/files")
    reply = await gate.call(b"/v1/files", [VERSION], method=b"GET")
    assert (reply.status, error_of(reply.body)["type"]) == (400, "invalid_request_error")
    assert len(origin.seen) == 1


@pytest.mark.parametrize(
    ("path", "rights", "says"),
    [
        (b"/v1/embeddings", Rights(models=("chat/*",)), "--model"),
        (b"/v1/files", Rights(models=("x",), pin="c"), "--model"),
        (b"/v1/files", Rights(), "tokenferry key set guest --pin ACCOUNT"),
        (b"/v1/messages/batches", Rights(accounts=("n",)), "tokenferry key set guest --pin ACCOUNT"),
    ],
)
async def test_a_key_with_limits_is_refused_with_the_reason(
    gate: Gate, guest: Guest, path: bytes, rights: Rights, says: str
) -> None:
    guest.rights = rights
    reply = await gate.call(path, [VERSION], b'{"model":"chat/x"}')
    assert reply.status == 403
    assert reply.all(b"x-tokenferry-error") == [b"unpriced"]
    assert says in json.loads(reply.body)["error"]["message"]
    assert (await gate.records.last()).attempts == 0


async def test_files_pass_where_one_account_is_pinned_for_all(source: Source, native: Origin, guest: Guest) -> None:
    settings = RouterSettings(account="n")
    router = Router(settings, (), source.providers)
    async with running_gate(source, settings=settings, router=router, keys=guest, key=KEY) as gate:
        reply = await gate.call(b"/v1/files", [VERSION], method=b"GET")
    assert (reply.status, len(native.seen)) == (200, 1)


async def test_the_error_for_a_program_says_how_to_pin_an_account_and_names_no_command(source: Source) -> None:
    async with running_gate(source, router=Router(RouterSettings(), (), source.providers)) as gate:
        reply = await gate.call(b"/v1/files", [VERSION], method=b"GET")
    message = error_of(reply.body)["message"]
    assert reply.status == 403
    assert "account='ACCOUNT'" in message
    assert "key set" not in message


@pytest.mark.parametrize("path", [b"/v1/embeddings", b"/v1/files"])
async def test_so_is_one_that_a_budget_covers(gate: Gate, guest: Guest, origin: Origin, path: bytes) -> None:
    guest.rights = Rights(pin="c")
    gate.gateway.budgets.adopt([Budget.of(BudgetSettings("all", "5usd/day"))])
    reply = await gate.call(path, None, b'{"model":"x"}')
    assert (reply.status, "budget" in reply.body.decode()) == (403, True)
    assert origin.seen == []


@pytest.mark.parametrize("path", [b"/v1/files", b"/v1/messages/batches"])
async def test_a_subscriptions_credential_is_never_presented(
    source: Source, native: Origin, guest: Guest, path: bytes
) -> None:
    guest.rights = Rights(pin="n")
    native_provider = Provider("native", "native", native.url, subscription=True)
    source.providers["native"] = native_provider
    source.results["n"] = [token("login")]
    async with running_gate(source, router=Router(RouterSettings(), (), source.providers), keys=guest, key=KEY) as gate:
        reply = await gate.call(path, [VERSION], method=b"GET")
    assert (reply.status, reply.all(b"x-tokenferry-error")) == (403, [b"subscription"])
    assert native.seen == []


async def test_a_bad_key_and_another_type_are_refused_as_everywhere(gate: Gate, guest: Guest) -> None:
    assert (await gate.call(b"/v1/embeddings", [(b"authorization", b"Bearer no")])).status == 401
    reply = await gate.call(b"/v1/embeddings", [(b"content-type", b"text/plain")], b"{}")
    assert (reply.status, error_in(reply)["type"]) == (415, "invalid_request_error")
