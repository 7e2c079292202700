"""The anthropic SDK through the gateway, on a login whose access token has expired."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import MessageParam

from e2e.parties import SandboxProcess, Server, eventually, tokenferry

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]

MODEL = "claude-sonnet-5-5"
QUESTION: list[MessageParam] = [{"role": "user", "content": "Ärger & “quotes” \\u00e9 ⛴"}]
ANSWER = "Hello from the sandbox, you said: Ärger & “quotes” \\u00e9 ⛴ ⛴"


@dataclass
class Sent:
    """What the client put on the wire."""

    bodies: list[str] = field(default_factory=list)

    def note(self, request: httpx2.Request) -> None:
        if request.url.path.startswith("/v1/messages"):
            self.bodies.append(sha256(request.read()).hexdigest())

    async def anote(self, request: httpx2.Request) -> None:
        self.note(request)


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def client(gateway: Server, key: str, sent: Sent) -> Iterator[anthropic.Anthropic]:
    http = anthropic.DefaultHttpxClient(event_hooks={"request": [sent.note]})
    with anthropic.Anthropic(base_url=gateway.url, auth_token=key, max_retries=0, http_client=http) as client:
        yield client


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def seen(sandbox: SandboxProcess) -> list[str]:
    return [request["body_sha256"] for request in sandbox.requests("/v1/messages")]


def is_refreshed_once(sandbox: SandboxProcess) -> bool:
    counters = sandbox.counters()
    return counters["refreshes"] == 1 and counters["reuses"] == 0 and counters["refreshes_failed"] == 0


def test_plain_streamed_raw_and_counted(client: anthropic.Anthropic, sandbox: SandboxProcess, sent: Sent) -> None:
    given: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": QUESTION}
    assert text_of(client.messages.create(**given)) == ANSWER

    with client.messages.stream(**given) as stream:
        assert "".join(stream.text_stream) == ANSWER
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0

    kinds = [event.type for event in client.messages.create(**given, stream=True)]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]

    assert client.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens > 0

    assert len(sent.bodies) == 4
    assert seen(sandbox) == sent.bodies
    assert is_refreshed_once(sandbox)


async def test_the_asynchronous_client(gateway: Server, key: str, sandbox: SandboxProcess, sent: Sent) -> None:
    given: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": QUESTION}
    http = anthropic.DefaultAsyncHttpxClient(event_hooks={"request": [sent.anote]})
    async with anthropic.AsyncAnthropic(
        base_url=gateway.url, auth_token=key, max_retries=0, http_client=http
    ) as client:
        assert text_of(await client.messages.create(**given)) == ANSWER
        async with client.messages.stream(**given) as stream:
            assert "".join([text async for text in stream.text_stream]) == ANSWER
        kinds = [event.type async for event in await client.messages.create(**given, stream=True)]
        assert kinds[-1] == "message_stop"
        assert (await client.messages.count_tokens(model=MODEL, messages=QUESTION)).input_tokens > 0
    assert seen(sandbox) == sent.bodies
    assert is_refreshed_once(sandbox)


def test_models(client: anthropic.Anthropic) -> None:
    models = list(client.models.list())
    assert models
    assert client.models.retrieve(models[0].id) == models[0]
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-of-nowhere")


def test_the_key_works_as_api_key_as_well(gateway: Server, key: str) -> None:
    with anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0) as client:
        assert text_of(client.messages.create(model=MODEL, max_tokens=100, messages=QUESTION)) == ANSWER


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (403, "permission_error", anthropic.PermissionDeniedError),
        (404, "not_found_error", anthropic.NotFoundError),
        (413, "request_too_large", anthropic.APIStatusError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.APIStatusError),
    ],
)
def test_an_error_of_the_provider_arrives_as_it_was(
    client: anthropic.Anthropic,
    sandbox: SandboxProcess,
    status: int,
    kind: str,
    error: type[anthropic.APIStatusError],
) -> None:
    sandbox.fault("status", path="/v1/messages", status=status, type=kind, message="So it is ⛴.", times=0)
    with pytest.raises(error) as caught:
        client.messages.create(model=MODEL, max_tokens=100, messages=QUESTION)
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"] == {"type": kind, "message": "So it is ⛴."}


def test_an_error_within_a_stream_arrives_as_it_was(client: anthropic.Anthropic, sandbox: SandboxProcess) -> None:
    sandbox.fault("sse_error", path="/v1/messages", deltas=2, type="overloaded_error", message="Too much.")
    events = client.messages.create(model=MODEL, max_tokens=100, messages=QUESTION, stream=True)
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(events)
    assert "Too much." in str(caught.value)


def test_a_cut_stream_never_looks_complete(client: anthropic.Anthropic, sandbox: SandboxProcess) -> None:
    sandbox.fault("truncate", path="/v1/messages", events=4, cut=True)
    events = client.messages.create(model=MODEL, max_tokens=100, messages=QUESTION, stream=True)
    kinds: list[str] = []
    with pytest.raises(anthropic.APIError):
        kinds.extend(event.type for event in events)
    assert "message_stop" not in kinds


def test_a_wrong_key_is_reported_and_reaches_no_upstream(gateway: Server, sandbox: SandboxProcess) -> None:
    with (
        anthropic.Anthropic(base_url=gateway.url, auth_token="tfk_wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        client.messages.create(model=MODEL, max_tokens=100, messages=QUESTION)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "authentication_error"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert sandbox.requests("/v1") == []


def test_without_an_account_the_error_names_the_command(client: anthropic.Anthropic, sandbox: SandboxProcess) -> None:
    assert tokenferry("account", "remove", "alice", "--yes").code == 0

    def refusal() -> anthropic.APIStatusError:
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.create(model=MODEL, max_tokens=100, messages=QUESTION)
        return caught.value

    assert refusal().status_code == 503
    eventually(lambda: "tokenferry account add" in json.dumps(refusal().body), "the running gateway knows of it")
    assert sandbox.requests("/v1/messages") == []
