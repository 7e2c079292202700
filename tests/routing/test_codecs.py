"""What translates for a target: how its model is asked to reason, and who gets reasoning back."""

import json
from typing import Any

import pytest

from tokenferry.errors import Unfit
from tokenferry.pool import AccountGroup, Target
from tokenferry.providers import Provider
from tokenferry.routing._codecs import codec_for, count_codec_for, thinking_of
from tokenferry.wire import Sent, WireFormat


def sent(
    provider: Provider, model: str, client: WireFormat, fields: dict[str, Any], content: Any = "hi", **target: Any
) -> Sent:
    """What is sent there for a request with these fields."""
    codec = codec_for(provider, Target(AccountGroup("up", ()), model, **target), client)
    assert codec is not None
    turn = {"role": "user", "content": content}
    return codec.request(json.dumps({"model": "m", "messages": [turn], "max_tokens": 30_000} | fields).encode(), model)


def up(upstream: WireFormat, most: int | None = None) -> Provider:
    return Provider("up", "openai", "http://up", wire_format=upstream, max_output_tokens=most)


def document(
    upstream: WireFormat, model: str, client: WireFormat = "openai", temperature: float | None = None, **target: Any
) -> dict[str, Any]:
    """The body that is sent there for a request with an effort."""
    fields = {"output_config": {"effort": "high"}} if client == "anthropic" else {"reasoning_effort": "high"}
    body = sent(up(upstream), model, client, fields | {"temperature": temperature}, **target).body
    found: dict[str, Any] = json.loads(body)
    return found


@pytest.mark.parametrize(
    ("model", "form"),
    [
        *((model, "adaptive") for model in ("claude-opus-4-6", "claude-sonnet-5-5", "us.anthropic.claude-haiku-5-5")),
        *((model, "budget") for model in ("claude-3-7-sonnet-latest", "claude-sonnet-4-20250514", "claude-opus-4-1")),
        *((model, "budget") for model in ("claude-haiku-4-5", "anthropic.claude-opus-4-5-20251101-v1:0")),
        *((model, "never") for model in ("claude-3-5-haiku-20241022", "claude-2.1", "glm-5", "my-claude", "")),
    ],
)
def test_the_form_of_thinking_follows_from_the_models_name(model: str, form: str) -> None:
    """docker/docker-agent#3381: an effort for a model without adaptive thinking was a 400 for each request."""
    assert thinking_of(model) == form


def test_claude_is_asked_to_think_as_it_takes_it() -> None:
    assert document("anthropic", "claude-opus-4-6")["thinking"] == {"type": "adaptive"}
    assert document("anthropic", "claude-opus-4-5")["thinking"]["type"] == "enabled"
    assert "thinking" not in document("anthropic", "glm-5")
    assert "thinking" not in document("anthropic", "claude-opus-4-6", efforts=())


@pytest.mark.parametrize(
    ("model", "is_taken"),
    [("claude-opus-4-6", True), ("claude-opus-4-7", False), ("claude-haiku-4-5", True), ("glm", True)],
)
def test_a_temperature_is_asked_for_where_the_model_takes_one(model: str, *, is_taken: bool) -> None:
    found = document("anthropic", model, efforts=(), temperature=0.5)
    assert ("temperature" in found) == is_taken


@pytest.mark.parametrize(
    ("upstream", "model", "efforts", "effort"),
    [
        ("openai-responses", "gpt-5.5", None, "high"),
        ("openai-responses", "openai/o4-mini", None, "high"),
        ("openai-responses", "gpt-5.5", (), None),
        ("openai-responses", "gpt-5.5", ("low", "medium"), "medium"),
        ("openai-responses", "gpt-5-chat-latest", None, None),
        ("openai-responses", "llama-3", None, None),
        ("openai", "gpt-5.5", None, None),
        ("openai", "gpt-5.5", ("low", "high"), "high"),
    ],
)
def test_efforts_are_those_of_the_mapping_or_known_by_the_models_name(
    upstream: WireFormat, model: str, efforts: tuple[str, ...] | None, effort: str | None
) -> None:
    """Models of Chat Completions refuse an effort beside tools, so that there it has to be declared."""
    found = document(upstream, model, "anthropic", efforts=efforts)
    asked = (
        found.get("reasoning", {}).get("effort") if upstream == "openai-responses" else found.get("reasoning_effort")
    )
    assert asked == effort


def test_encrypted_reasoning_is_of_one_account_and_other_reasoning_of_all() -> None:
    for upstream, is_shared in (("openai-responses", False), ("openai", True)):
        provider = Provider("up", "openai", "http://up", wire_format=upstream)  # type: ignore[arg-type]
        target = Target(AccountGroup("up", ()), "gpt")
        one, same, other = (codec_for(provider, target, "anthropic", account) for account in ("a", "a", "b"))
        assert one is same
        assert (one is other) == is_shared


@pytest.mark.parametrize(
    ("model", "efforts", "thinking"),
    [
        ("gemini-3-pro", None, {"thinkingLevel": "HIGH"}),
        ("gemini-3-flash-preview", None, {"thinkingLevel": "HIGH"}),
        ("gemini-pro-latest", None, {"thinkingLevel": "HIGH"}),
        ("gemini-3.1-pro", ("low", "medium"), {"thinkingLevel": "MEDIUM"}),
        ("gemini-3-pro", (), None),
        ("gemini-2.5-pro", None, {"thinkingBudget": 15_000}),
        ("gemini-2.5-flash-lite", None, {"thinkingBudget": 24_576}),
        ("gemini-2.0-flash", None, None),
        ("gemma-3-27b-it", None, None),
    ],
)
@pytest.mark.parametrize("upstream", ["gemini", "vertex"])
def test_a_gemini_model_is_asked_to_think_as_its_generation_takes_it(
    upstream: Any, model: str, efforts: tuple[str, ...] | None, thinking: dict[str, Any] | None
) -> None:
    """A level and a budget at once, or either at a model that doesn't know it, is a 400."""
    config = document(upstream, model, "anthropic", efforts=efforts)["generationConfig"]
    assert config.get("thinkingConfig") == thinking


_OFF = {"thinking": {"type": "disabled"}}
_FAR = {"thinking": {"type": "enabled", "budget_tokens": 99_000}, "max_tokens": 100_000}


@pytest.mark.parametrize(
    ("model", "fields", "thinking"),
    [
        ("gemini-3-flash", {"output_config": {"effort": "medium"}}, {"thinkingLevel": "MEDIUM"}),
        ("gemini-3-flash", _OFF, {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.1-pro", {"output_config": {"effort": "medium"}}, {"thinkingLevel": "MEDIUM"}),
        ("gemini-3.1-pro", _OFF, {"thinkingLevel": "LOW"}),
        ("gemini-3-pro", {"output_config": {"effort": "medium"}}, {"thinkingLevel": "LOW"}),
        ("gemini-2.5-pro", _OFF, {"thinkingBudget": 128}),
        ("gemini-2.5-pro", _FAR, {"includeThoughts": True, "thinkingBudget": 32_768}),
        ("gemini-2.5-flash", _OFF, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", _FAR, {"includeThoughts": True, "thinkingBudget": 24_576}),
    ],
)
def test_a_gemini_model_thinks_within_its_vendors_bounds(
    model: str, fields: dict[str, Any], thinking: dict[str, Any]
) -> None:
    """Another level or budget than https://ai.google.dev/gemini-api/docs/thinking lists is a 400."""
    assert json.loads(sent(up("gemini"), model, "anthropic", fields).body)["generationConfig"]["thinkingConfig"] == (
        thinking
    )


@pytest.mark.parametrize(("own", "most"), [(None, 5000), (100, 100)])
def test_a_mappings_output_limit_comes_before_the_providers(own: int | None, most: int) -> None:
    body = sent(up("openai", 5000), "m", "anthropic", {}, max_output_tokens=own).body
    assert json.loads(body)["max_tokens"] == most


def test_gemini_takes_documents_which_others_need_declared() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    content = [{"type": "document", "source": source}]
    assert b"JVBERi0=" in sent(up("gemini"), "gemini-3-pro", "anthropic", {}, content).body
    with pytest.raises(Unfit):
        sent(up("openai"), "gpt", "anthropic", {}, content)


@pytest.mark.parametrize(
    ("upstream", "place"), [("gemini", "/models/gemini-3-pro"), ("vertex", "/publishers/google/models/gemini-3-pro")]
)
def test_a_gemini_model_is_asked_and_counted_where_its_cloud_has_it(upstream: WireFormat, place: str) -> None:
    provider, target = up(upstream), Target(AccountGroup("up", ()), "gemini-3-pro")
    assert sent(provider, "gemini-3-pro", "anthropic", {}).path == f"{place}:generateContent"
    counting = count_codec_for(provider, target)
    assert counting is not None
    asked = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    assert counting.request(asked, "gemini-3-pro").path == f"{place}:countTokens"
    assert count_codec_for(up("openai"), target) is None


def test_a_thought_signature_goes_back_to_the_account_and_model_that_it_came_from() -> None:
    provider = Provider("up", "gemini", "http://up", wire_format="gemini")
    pro, flash = (Target(AccountGroup("up", ()), model) for model in ("gemini-3-pro", "gemini-3-flash"))
    part = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2ln"}
    candidate = {"content": {"parts": [part]}, "finishReason": "STOP"}
    origin = codec_for(provider, pro, "anthropic", "a")
    assert origin is not None
    turn = {"role": "user", "content": "hi"}
    asked = json.dumps({"model": "m", "messages": [turn], "max_tokens": 9}).encode()
    found, _ = origin.answer(json.dumps({"candidates": [candidate]}).encode(), origin.request(asked, "m"))
    content = json.loads(found)["content"]
    result = {"type": "tool_result", "tool_use_id": content[1]["id"], "content": "x"}
    turns = [turn, {"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
    body = json.dumps({"model": "m", "messages": turns, "max_tokens": 9}).encode()
    sent = {}
    for name, target, account in (("same", pro, "a"), ("account", pro, "b"), ("model", flash, "a")):
        using = codec_for(provider, target, "anthropic", account)
        assert using is not None
        sent[name] = json.loads(using.request(body, "m").body)["contents"][1]["parts"][0]["thoughtSignature"]
    skipped = "skip_thought_signature_validator"
    assert sent == {"same": "c2ln", "account": skipped, "model": skipped}
