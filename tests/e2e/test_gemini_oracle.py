"""Google's own SDK judges: its types what we send, and its client what the sandbox answers."""

import gc
import json
import warnings
from typing import Any, Final

import pytest
from google import genai
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_rosetta import convert

from e2e.parties import SandboxProcess
from tokenferry.errors import Unfit
from tokenferry.wire import Quirks, codec
from tokenferry.wire._envelope import seal

pytestmark = pytest.mark.e2e

DOMAIN: Final = "up/model"
TEXT: Final = st.text(max_size=4)
SCHEMA: Final = st.fixed_dictionaries(
    {"type": st.just("object")},
    optional={
        "properties": st.dictionaries(
            st.sampled_from(["at", "of"]),
            st.sampled_from(
                [
                    {"type": ["string", "null"], "minLength": 1},
                    {"type": "array"},
                    {"const": "x"},
                    {"$ref": "#/definitions/d"},
                    {"allOf": [{"type": "string"}, {"enum": ["a"]}]},
                ]
            ),
        ),
        "$schema": st.just("https://json-schema.org/draft/2020-12/schema"),
        "definitions": st.just({"d": {"type": "integer", "exclusiveMinimum": 0}}),
        "additionalProperties": st.booleans(),
    },
)
BLOCK: Final = st.one_of(
    st.builds(lambda words: {"type": "text", "text": words}, TEXT),
    st.just({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}),
)
THOUGHT: Final = st.sampled_from(["c2ln", ""]).map(
    lambda payload: {"type": "thinking", "thinking": "hm", "signature": seal(DOMAIN, payload)}
)


@pytest.fixture(autouse=True, scope="module")
def _collected() -> None:
    """What earlier tests left is not the SDK's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "go"}, *draw(st.lists(BLOCK, max_size=2))]}
    ]
    for step in range(draw(st.integers(0, 3))):
        names = draw(st.lists(st.sampled_from(["look", "1st", "mcp__a.b"]), max_size=3))
        calls = [
            {
                "type": "tool_use",
                "id": f"{draw(st.sampled_from(['gemini_', 'toolu_']))}{step}_{at}",
                "name": name,
                "input": {"at": 1},
            }
            for at, name in enumerate(names)
        ]
        said = [
            *draw(st.lists(THOUGHT, max_size=1)),
            {"type": "text", "text": "so"},
            *draw(st.lists(THOUGHT, max_size=2)),
            *calls,
        ]
        results = [
            {
                "type": "tool_result",
                "tool_use_id": call["id"],
                "content": draw(st.lists(BLOCK, max_size=2)),
                "is_error": draw(st.booleans()),
            }
            for call in draw(st.permutations(calls))
        ]
        turns += [
            {"role": "assistant", "content": said},
            {"role": "user", "content": [*results, *draw(st.lists(BLOCK, min_size=not results, max_size=2))]},
        ]
    return turns


@given(
    turns=conversations(),
    schema=SCHEMA,
    fields=st.fixed_dictionaries(
        {},
        optional={
            "system": TEXT,
            "tool_choice": st.sampled_from([{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "look"}]),
            "thinking": st.sampled_from(
                [{"type": "disabled"}, {"type": "adaptive"}, {"type": "enabled", "budget_tokens": 9000}]
            ),
            "output_config": st.just(
                {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object", "title": "t"}}}
            ),
            "stop_sequences": st.lists(TEXT, max_size=7),
            "temperature": st.just(0.5),
            "top_k": st.just(3),
        },
    ),
    thinking=st.sampled_from(["never", "budget", "level"]),
)
@settings(max_examples=300, deadline=None)
def test_what_is_sent_is_what_the_vendors_types_take(
    turns: list[dict[str, Any]], schema: dict[str, Any], fields: dict[str, Any], thinking: Any
) -> None:
    """They forbid fields that they don't know, at every depth but within schemas and arguments."""
    tools = [
        {"name": name, "description": "d", "input_schema": schema, "strict": True}
        for name in ("look", "1st", "mcp__a.b")
    ]
    body = {"model": "m", "max_tokens": 99, "messages": turns, "tools": tools, **fields}
    using = codec("anthropic", "gemini", Quirks(thinking=thinking, efforts=("low", "high")), domain=DOMAIN)
    assert using is not None
    try:
        sent = json.loads(using.request(json.dumps(body).encode(), "m").body)
    except Unfit:
        return
    contents = [types.Content.model_validate(one) for one in sent.pop("contents")]
    for one in sent.pop("tools", ()):
        for function in types.Tool.model_validate(one).function_declarations or ():
            types.JSONSchema.model_validate(_known(function.parameters_json_schema))
    types.ToolConfig.model_validate(sent.pop("toolConfig", {}))
    config = types.GenerationConfig.model_validate(sent.pop("generationConfig"))
    types.Content.model_validate(sent.pop("systemInstruction", {}))
    assert not sent, "there is nothing else in a request"
    assert config.thinking_config is None or not (
        config.thinking_config.thinking_budget is not None and config.thinking_config.thinking_level
    )
    assert [content.role for content in contents][:: len(contents) - 1 or 1] in (["user"], ["user", "user"])


def _known(schema: Any) -> Any:
    """Without the keywords that the SDK has no field for, though its pages name them."""
    return {name: value for name, value in schema.items() if not name.startswith("$")}


def test_the_vendors_client_reads_what_the_sandbox_answers(sandbox: SandboxProcess) -> None:
    calls = [{"name": "look", "input": {"at": 1}}, {"name": "look", "input": {"at": 2}}]
    sandbox.settings(answer={"thinking": True, "calls": calls})
    options = types.HttpOptions(base_url=sandbox.url)
    declared = types.FunctionDeclaration(
        name="look", parameters_json_schema={"type": "object", "properties": {"at": {}}}
    )
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])],
        thinking_config=types.ThinkingConfig(include_thoughts=True),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    with genai.Client(api_key=sandbox.api_key("alice"), http_options=options) as client:
        chat = client.chats.create(model="gemini-3-pro", config=config)
        streamed = list(chat.send_message_stream("hi"))
        made = [call for one in streamed for call in one.function_calls or ()]
        assert [call.args for call in made] == [{"at": 1}, {"at": 2}]
        answered = [
            types.Part(
                function_response=types.FunctionResponse(name=call.name, id=call.id, response={"output": "a ferry"})
            )
            for call in made
        ]
        last = chat.send_message(answered)
        assert last.text == "Hello from the sandbox, your tools said: a ferry, a ferry ⛴"
        assert last.usage_metadata is not None
        assert client.models.count_tokens(model="gemini-3-pro", contents="hi").total_tokens
        with pytest.raises(genai.errors.ClientError, match="not found"):
            client.models.generate_content(model="gpt", contents="hi")


def _flat(contents: list[dict[str, Any]]) -> list[tuple[str, str, Any]]:
    """What each part says, by whom: without ids, signatures, and how parts are put together."""
    found: list[tuple[str, str, Any]] = []
    for content in contents:
        for part in content["parts"]:
            given = {name.replace("_", "").lower(): value for name, value in part.items()}
            if (call := given.get("functioncall")) is not None:
                found.append((content["role"], "call", (call["name"], call["args"])))
            elif (response := given.get("functionresponse")) is not None:
                found.append(
                    (content["role"], "response", (response["name"], next(iter(response["response"].values()))))
                )
            elif given.get("text"):
                found.append((content["role"], "text", given["text"]))
    return found


@given(st.lists(st.lists(st.sampled_from(["look", "touch"]), max_size=3), max_size=3))
@settings(max_examples=50, deadline=None)
def test_another_translator_writes_the_same_conversation(steps: list[list[str]]) -> None:
    turns: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
    for step, names in enumerate(steps):
        calls = [
            {"type": "tool_use", "id": f"toolu_{step}_{at}", "name": name, "input": {"at": at}}
            for at, name in enumerate(names)
        ]
        results = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": f"saw {at}"} for at, call in enumerate(calls)
        ]
        turns.append({"role": "assistant", "content": [{"type": "text", "text": f"step {step}"}, *calls]})
        turns.append({"role": "user", "content": [*results, {"type": "text", "text": "and?"}]})
    body = {"model": "m", "max_tokens": 99, "messages": turns}
    using = codec("anthropic", "gemini", Quirks(thinking="level"), domain=DOMAIN)
    assert using is not None
    ours = json.loads(using.request(json.dumps(body).encode(), "m").body)["contents"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it leaves out
        theirs = convert(body, "google", "anthropic")["contents"]
    assert _flat(ours) == _flat(theirs)
