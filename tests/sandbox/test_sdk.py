"""The vendor's own SDK takes the sandbox for the real API."""

import anthropic
import pytest

from tokenferry.sandbox import Sandbox

BETA = {"anthropic-beta": "oauth-2025-04-20"}
MESSAGES: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Grüße"}]
EXPECTED = "Hello from the sandbox, you said: Grüße ⛴"


@pytest.fixture(params=["api key", "auth token"])
def credential(request: pytest.FixtureRequest, sandbox: Sandbox) -> dict[str, str]:
    if request.param == "api key":
        return {"api_key": sandbox.api_key("alice")}
    return {"auth_token": str(sandbox.issue("alice")["access_token"])}


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_sync(sandbox: Sandbox, credential: dict[str, str]) -> None:
    with anthropic.Anthropic(
        base_url=sandbox.url,
        api_key=credential.get("api_key"),
        auth_token=credential.get("auth_token"),
        default_headers=BETA,
        max_retries=0,
    ) as client:
        assert text_of(client.messages.create(model="claude-x", max_tokens=50, messages=MESSAGES)) == EXPECTED
        with client.messages.stream(model="claude-x", max_tokens=50, messages=MESSAGES) as stream:
            assert "".join(stream.text_stream) == EXPECTED
            assert stream.get_final_message().usage.output_tokens == 8
        assert client.messages.count_tokens(model="claude-x", messages=MESSAGES).input_tokens > 0
        assert len(list(client.models.list(limit=2))) == 5


@pytest.mark.anyio
async def test_async(sandbox: Sandbox, credential: dict[str, str]) -> None:
    async with anthropic.AsyncAnthropic(
        base_url=sandbox.url,
        api_key=credential.get("api_key"),
        auth_token=credential.get("auth_token"),
        default_headers=BETA,
        max_retries=0,
    ) as client:
        assert text_of(await client.messages.create(model="claude-x", max_tokens=50, messages=MESSAGES)) == EXPECTED
        async with client.messages.stream(model="claude-x", max_tokens=50, messages=MESSAGES) as stream:
            assert "".join([text async for text in stream.text_stream]) == EXPECTED


def test_errors_are_distinguished(sandbox: Sandbox) -> None:
    with (
        anthropic.Anthropic(base_url=sandbox.url, api_key="sk-ant-api03-wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.messages.create(model="claude-x", max_tokens=50, messages=MESSAGES)
    with anthropic.Anthropic(base_url=sandbox.url, api_key=sandbox.api_key("bob"), max_retries=0) as client:
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="unknown", max_tokens=50, messages=MESSAGES)
        sandbox.fault("sse_error", deltas=2)
        with (
            pytest.raises(anthropic.APIStatusError, match="Overloaded"),
            client.messages.stream(model="claude-x", max_tokens=50, messages=MESSAGES) as stream,
        ):
            stream.until_done()


def test_retries_see_the_fault_once(sandbox: Sandbox) -> None:
    sandbox.fault("status", status=529, headers={"retry-after-ms": "1"}, times=2)
    with anthropic.Anthropic(base_url=sandbox.url, api_key=sandbox.api_key("bob"), max_retries=2) as client:
        assert text_of(client.messages.create(model="claude-x", max_tokens=50, messages=MESSAGES)) == EXPECTED
    assert [request["status"] for request in sandbox.requests()] == [529, 529, 200]
