"""Models in the shape of the API that asks, whatever the upstream's is."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai.types import Model

from gateway.proxy.test_chat_clients import MODELS, error_in
from gateway.proxy.test_chat_clients import source as _source
from gateway.rig import Gate, Origin, Reply, Source, error_of, json_answer, running_gate, running_origin
from tokenferry.routing import Router
from tokenferry.settings import RouterSettings

pytestmark = pytest.mark.anyio

ANTHROPICS = {
    "data": [{"type": "model", "id": "claude-a", "display_name": "Claude A", "created_at": "2025-09-29T00:00:00Z"}],
    "has_more": True,
    "first_id": "claude-a",
    "last_id": "claude-a",
}
OPENAIS = {"object": "list", "data": [{"id": "gpt-a", "object": "model", "created": 1759104000, "owned_by": "openai"}]}
source = _source


@pytest.fixture
async def native() -> AsyncIterator[Origin]:
    async with running_origin() as other:
        other.scripts = [json_answer(json.dumps(ANTHROPICS).encode())]
        yield other


async def ask(gate: Gate, path: bytes = b"", *, openai: bool) -> Reply:
    lines = [b"GET /v1/models" + path + b" HTTP/1.1", b"host: " + gate.host, b"authorization: Bearer " + gate.key]
    lines += [] if openai else [b"anthropic-version: 2023-06-01"]
    return await gate.raw(b"\r\n".join([*lines, b"", b""]), method=b"GET")


def gate_to(source: Source, origin: Origin, default: str, **settings: Any) -> Any:
    origin.scripts = [json_answer(json.dumps(OPENAIS).encode())]
    models = MODELS if settings else ()
    router = RouterSettings(providers=(default,), **settings)
    return running_gate(source, settings=router, router=Router(router, models, source.providers))


@pytest.mark.parametrize("openai", [True, False])
@pytest.mark.parametrize("default", ["chat", "native"])
async def test_each_api_reads_the_list_of_each_upstream(
    source: Source, origin: Origin, native: Origin, default: str, *, openai: bool
) -> None:
    async with gate_to(source, origin, default) as gate:
        reply = await ask(gate, openai=openai)
    document = json.loads(reply.body)
    assert reply.status == 200
    is_same = openai == (default == "chat")
    if is_same:
        assert document == (OPENAIS if openai else ANTHROPICS), "within one format the bytes pass"
    name = "gpt-a" if default == "chat" else "claude-a"
    if openai:
        found = Model.model_validate(document["data"][0], strict=True)
        assert (document["object"], found.id, found.created) == ("list", name, 1759104000)
    else:
        info = document["data"][0]
        assert (info["type"], info["id"], info["created_at"]) == ("model", name, "2025-09-29T00:00:00Z")
        assert info["display_name"]
        assert (document["first_id"], document["last_id"]) == (name, name)
    seen = (origin if default == "chat" else native).seen[0]
    assert seen.target == (b"/v1/models?limit=1000" if default == "native" and openai else b"/v1/models")
    assert seen.method == "GET"
    assert bool(seen.all(b"anthropic-version")) == ((not is_same and default == "native") or (not openai and is_same))


@pytest.mark.parametrize("openai", [True, False])
@pytest.mark.parametrize("default", ["chat", "native"])
async def test_mapped_models_are_beside_them(source: Source, origin: Origin, default: str, *, openai: bool) -> None:
    async with gate_to(source, origin, default, list_models="merge") as gate:
        document = json.loads((await ask(gate, openai=openai)).body)
        names = [one["id"] for one in document["data"]]
        assert names == ["same", "both", "other", "gpt-a" if default == "chat" else "claude-a"]
        one = json.loads((await ask(gate, b"/same", openai=openai)).body)
    assert ("object" in one, "type" in one) == (openai, not openai)
    if openai:
        assert Model.model_validate(one, strict=True).owned_by == "tokenferry"


async def test_a_list_of_mapped_models_alone_has_no_pages_for_openais_clients(source: Source, origin: Origin) -> None:
    async with gate_to(source, origin, "native", list_models="mapped") as gate:
        document = json.loads((await ask(gate, b"?limit=1", openai=True)).body)
        paged = json.loads((await ask(gate, b"?limit=1", openai=False)).body)
    assert [one["id"] for one in document["data"]] == ["same", "both", "other"]
    assert document.keys() == {"object", "data"}
    assert (len(paged["data"]), paged["has_more"]) == (1, True)


async def test_one_model_of_the_other_format(source: Source, origin: Origin, native: Origin) -> None:
    native.scripts = [json_answer(json.dumps(ANTHROPICS["data"][0]).encode())]  # type: ignore[index]
    async with gate_to(source, origin, "native") as gate:
        document = json.loads((await ask(gate, b"/claude-a", openai=True)).body)
    assert Model.model_validate(document, strict=True).id == "claude-a"
    assert native.seen[0].target == b"/v1/models/claude-a"


@pytest.mark.parametrize("openai", [True, False])
async def test_an_error_comes_in_the_callers_envelope(
    source: Source, origin: Origin, native: Origin, *, openai: bool
) -> None:
    async with gate_to(source, origin, "native") as gate:
        native.scripts = [
            json_answer(b'{"type":"error","error":{"type":"not_found_error","message":"no such"}}', status=404)
        ]
        reply = await ask(gate, b"/nope", openai=openai)
        assert reply.status == 404
        message = error_in(reply)["message"] if openai else json.loads(reply.body)["error"]["message"]
        assert message == "no such"
        native.scripts = [json_answer(b'{"data": 3}')]
        reply = await ask(gate, openai=True)
        assert (reply.status, "not a list of models" in error_in(reply)["message"]) == (500, True)
        reply = await gate.call(
            b"/v1/models", [(b"authorization", b"Bearer x"), (b"anthropic-version", b"1")], method=b"GET"
        )
        assert error_of(reply.body)["type"] == "authentication_error"
