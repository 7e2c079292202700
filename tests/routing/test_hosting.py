import json
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.errors import Unfit
from tokenferry.providers import Provider
from tokenferry.routing import BodyFacts, hosted_member, hosted_target, rewrite, scan

VERTEX = Provider(
    "v", "vertex-claude", "https://vertex.invalid/v1/projects/p/locations/l", wire_format="vertex-anthropic"
)
AZURE = Provider("a", "azure", "https://a.invalid/openai", wire_format="openai", api_version="2024-10-21")
PLAIN = Provider("p", "openai", "https://p.invalid/v1", wire_format="openai")
MESSAGES = b"/v1/messages"
COUNT = b"/v1/messages/count_tokens"
MODELS = "/publishers/anthropic/models/"
VERSION = {"anthropic_version": "vertex-2023-10-16"}

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.text().filter(lambda name: name.lower() != "model" and name not in VERSION)


def body_of(provider: Provider, target: bytes, body: bytes, model: str = "c") -> bytes:
    """The body as the gateway sends it for a model of this name."""
    facts = scan([body])
    assert isinstance(facts, BodyFacts)
    return b"".join(rewrite(facts, model, member=hosted_member(provider, target, model)))


@pytest.mark.parametrize(
    ("provider", "target", "model", "at"),
    [
        (VERTEX, MESSAGES, "claude-opus-4-6", f"{MODELS}claude-opus-4-6:rawPredict"),
        (VERTEX, b"/v1/messages?beta=true", "claude-4@20251101", f"{MODELS}claude-4@20251101:rawPredict"),
        (VERTEX, COUNT, "claude-opus-4-6", f"{MODELS}count-tokens:rawPredict"),
        (VERTEX, MESSAGES, "..x?y#z/ä", f"{MODELS}..x%3Fy%23z%2F%C3%A4:rawPredict"),
        (AZURE, b"/chat/completions", "my one", "/deployments/my%20one/chat/completions?api-version=2024-10-21"),
        (AZURE, b"/embeddings?x=1", "e", "/deployments/e/embeddings?x=1&api-version=2024-10-21"),
        (AZURE, b"/responses", "gpt", "/responses?api-version=2024-10-21"),
        (AZURE, b"/models", "", "/models?api-version=2024-10-21"),
        (PLAIN, b"/chat/completions?x=1", "m", "/chat/completions?x=1"),
    ],
)
def test_a_request_goes_where_its_cloud_takes_it(provider: Provider, target: bytes, model: str, at: str) -> None:
    assert hosted_target(provider, target, model) == at.encode()


def test_a_stream_is_another_call_of_vertex_ai() -> None:
    assert hosted_target(VERTEX, MESSAGES, "c", stream=True) == f"{MODELS}c:streamRawPredict".encode()


@pytest.mark.parametrize(
    ("provider", "target", "model"),
    [
        (VERTEX, b"/v1/messages/batches", "m"),
        (VERTEX, b"/v1/models", ""),
        (VERTEX, MESSAGES, ""),
        (VERTEX, b"/v1/files/x", "m"),
        (AZURE, b"/embeddings", ""),
        *(
            (provider, target, model)
            for provider, target in ((VERTEX, MESSAGES), (AZURE, b"/chat/completions"), (AZURE, b"/embeddings"))
            for model in ("..", ".", "../../x", "a/../b", "a\\..", "./x")
        ),
    ],
)
def test_what_its_cloud_does_not_have_is_unfit(provider: Provider, target: bytes, model: str) -> None:
    with pytest.raises(Unfit):
        hosted_target(provider, target, model)


@given(members=st.dictionaries(names, values, max_size=6), place=st.integers(0, 6), model=st.text(max_size=40))
@pytest.mark.parametrize("escapes", [True, False])
def test_vertex_ai_has_the_model_in_the_path_and_every_other_byte_as_it_came(
    *, members: dict[str, Any], place: int, model: str, escapes: bool
) -> None:
    pairs = list(members.items())
    body = json.dumps(dict([*pairs[:place], ("model", model), *pairs[place:]]), ensure_ascii=escapes).encode()
    member = f'"model": {json.dumps(model, ensure_ascii=escapes)}'.encode()
    sent = body_of(VERTEX, MESSAGES, body)
    assert json.loads(sent) == {name: value for name, value in json.loads(body).items() if name != "model"} | VERSION
    if body.count(member) == 1:
        assert sent == body.replace(member, b'"anthropic_version":"vertex-2023-10-16"')


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"model":"c"}', b'{"anthropic_version":"vertex-2023-10-16"}'),
        (
            b'{ "a": 1, "model" : "c" , "stream":true}',
            b'{ "a": 1, "anthropic_version":"vertex-2023-10-16" , "stream":true}',
        ),
        (b'{"mod\\u0065l": "c","x":"\\"model\\":"}', b'{"anthropic_version":"vertex-2023-10-16","x":"\\"model\\":"}'),
        (b'{"a":{"model":"inner"},"model":"c"}', b'{"a":{"model":"inner"},"anthropic_version":"vertex-2023-10-16"}'),
    ],
)
def test_only_the_member_that_names_the_model_is_replaced(body: bytes, sent: bytes) -> None:
    assert body_of(VERTEX, MESSAGES, body) == sent


def test_the_count_of_tokens_has_both() -> None:
    body = b'{"messages":[], "model": "claude-opus-4-6"}'
    assert json.loads(body_of(VERTEX, COUNT, body)) == json.loads(body) | VERSION | {"model": "c"}


def test_no_other_body_changes() -> None:
    for provider in (AZURE, PLAIN):
        assert body_of(provider, b"/chat/completions", b'{"model":"c"}') == b'{"model":"c"}'


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_request_is_what_the_vendors_own_client_for_vertex_ai_sends(path: str, *, stream: bool) -> None:
    """`AnthropicVertex` against the plain client's request with what is done to that here."""
    pytest.importorskip("google.auth", reason="an extra")
    seen: list[tuple[bytes, bytes]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.url.raw_path, request.read()))
        return httpx2.Response(400, json={"type": "error", "error": {"type": "invalid_request_error", "message": "no"}})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    place: dict[str, Any] = {"project_id": "p", "region": "l", "access_token": "t"}
    asked: dict[str, Any] = {"model": "claude-opus-4-5@20251101", "messages": [{"role": "user", "content": "hé"}]}
    if path == "/v1/messages":
        asked |= {"max_tokens": 9, "stream": stream}
    for client in (
        anthropic.Anthropic(api_key="k", http_client=http),
        anthropic.AnthropicVertex(**place, http_client=http),
    ):
        call = client.messages.create if path == "/v1/messages" else client.messages.count_tokens
        with pytest.raises(anthropic.BadRequestError):
            call(**asked)
    (target, body), (vertex_target, vertex_body) = seen
    is_stream = stream and path == "/v1/messages"
    below = hosted_target(VERTEX, target, asked["model"], stream=is_stream)
    assert f"/v1/projects/p/locations/l{below.decode()}" == vertex_target.decode()
    # Newer clients name the version of the API in the body, and not the one that the vendor's page wants there.
    assert json.loads(body_of(VERTEX, target, body, asked["model"])) == json.loads(vertex_body) | VERSION
    assert json.loads(vertex_body)["anthropic_version"]
