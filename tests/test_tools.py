import asyncio
import threading
from typing import Annotated, Any, Literal

import anthropic
import msgspec
import openai
import pytest
from anthropic.types import Message, ToolUseBlock
from hypothesis import given, strategies
from openai.types.chat import ChatCompletion

from tokenferry.errors import UsageError
from tokenferry.tools import Registry


class Place(msgspec.Struct):
    city: str
    zone: int = 0


def weather(place: Place, unit: Annotated[Literal["c", "f"], msgspec.Meta(description="the scale")] = "c") -> str:
    """Tell the weather of a place."""
    return f"{place.city}: 20 {unit}"


@pytest.fixture
def registry() -> Registry:
    registry = Registry(longest_result=100)
    registry.tool(weather)
    return registry


def use(name: str, arguments: object) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}


def test_a_function_stays_as_it_is(registry: Registry) -> None:
    assert registry.tool(name="again")(weather) is weather


def test_the_schema_comes_from_the_types_and_the_description_from_the_docstring(registry: Registry) -> None:
    (tool,) = registry.anthropic()
    assert (tool["name"], tool["description"]) == ("weather", "Tell the weather of a place.")
    schema = tool["input_schema"]
    assert (schema["type"], schema["required"], schema["additionalProperties"]) == ("object", ["place"], False)
    assert schema["properties"]["unit"] == {"enum": ["c", "f"], "description": "the scale", "default": "c"}
    assert schema["properties"]["place"] == {"$ref": "#/$defs/Place"}
    assert schema["$defs"]["Place"]["required"] == ["city"]


def test_each_format_lists_the_same_tool(registry: Registry) -> None:
    schema = registry.anthropic()[0]["input_schema"]
    assert registry.openai()[0]["function"]["parameters"] == schema
    assert registry.responses()[0]["parameters"] == schema
    assert registry.gemini()[0]["functionDeclarations"][0]["parametersJsonSchema"] == schema


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            use("weather", {"place": {"city": "Rome"}}),
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Rome: 20 c"},
        ),
        (
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"place":{"city":"Rome"}}'},
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Rome: 20 c"},
        ),
        (
            {"type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"place":{"city":"Rome"}}'},
            {"type": "function_call_output", "call_id": "c", "output": "Rome: 20 c"},
        ),
        (
            {"functionCall": {"name": "weather", "args": {"place": {"city": "Rome"}}}},
            {"functionResponse": {"name": "weather", "response": {"output": "Rome: 20 c"}}},
        ),
    ],
)
def test_a_result_has_the_format_of_its_call(
    registry: Registry, call: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert registry.call(call) == asyncio.run(registry.acall(call)) == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "missing required field `place`"),
        ({"place": {"city": 1}}, "Expected `str`, got `int` - at `$.place.city`"),
        ({"place": {"city": "Rome"}, "unit": "k"}, "Invalid enum value 'k'"),
        ({"place": {"city": "Rome"}, "other": 1}, "unknown field `other`"),
        (None, "missing required field `place`"),
        ([], "Expected `object`"),
    ],
)
def test_arguments_that_do_not_fit_go_back_to_the_model(registry: Registry, arguments: object, says: str) -> None:
    result = registry.call(use("weather", arguments))
    assert result["is_error"]
    assert says in result["content"]


@given(strategies.text(max_size=50))
def test_no_text_in_place_of_arguments_raises(text: str) -> None:
    registry = Registry()
    registry.tool(weather)
    call = {"id": "call_1", "function": {"name": "weather", "arguments": text}}
    assert registry.call(call)["content"].startswith("the arguments don't fit")


def test_an_unknown_tool_goes_back_to_the_model_with_the_names_there_are(registry: Registry) -> None:
    result = registry.call(use("wether", {}))
    assert result["content"] == "there is no tool 'wether'; there are: weather"


def test_an_exception_goes_back_to_the_model_and_to_the_log(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    @registry.tool
    def divide(a: int, b: int) -> float:
        return a / b

    result = registry.call(use("divide", {"a": 1, "b": 0}))
    assert result["is_error"]
    assert result["content"] == "the tool failed: ZeroDivisionError: division by zero"
    assert "the tool divide failed" in caplog.text


def test_a_lookup_that_fails_within_a_tool_is_a_failure_of_the_tool(registry: Registry) -> None:
    @registry.tool
    def look(key: str) -> str:
        return {"a": "b"}[key]

    assert registry.call(use("look", {"key": "x"}))["content"] == "the tool failed: KeyError: 'x'"


def test_a_long_result_is_cut_and_says_so(registry: Registry) -> None:
    @registry.tool
    def much() -> str:
        return "x" * 1000

    content = registry.call(use("much", {}))["content"]
    assert content == "x" * 100 + "\n[cut: 100 of 1000 characters]"


@pytest.mark.parametrize(
    ("given", "text"), [(None, "null"), ([1, 2], "[1,2]"), (Place("Rome"), '{"city":"Rome","zone":0}')]
)
def test_a_result_that_is_no_text_is_json(registry: Registry, given: object, text: str) -> None:
    @registry.tool
    def give() -> Any:
        return given

    assert registry.call(use("give", {}))["content"] == text


def test_a_result_that_is_no_json_is_an_error(registry: Registry) -> None:
    @registry.tool
    def give() -> Any:
        return threading.Lock()

    assert registry.call(use("give", {}))["is_error"]


def test_an_asynchronous_tool_is_stopped_at_its_timeout(registry: Registry) -> None:
    stopped = []

    @registry.tool(timeout=0.01)
    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(True)

    assert registry.call(use("wait", {}))["content"] == "the tool took too long and was stopped"
    assert stopped


def test_an_asynchronous_tool_is_called_on_the_loop_that_runs(registry: Registry) -> None:
    @registry.tool
    async def add(a: int, b: int = 2) -> int:
        return a + b

    async def ask() -> dict[str, Any]:
        with pytest.raises(UsageError, match="await acall"):
            registry.call(use("add", {"a": 1}))
        return await registry.acall(use("add", {"a": 1}))

    assert asyncio.run(ask())["content"] == "3"


def test_the_functions_own_default_holds_where_json_has_no_word_for_it(registry: Registry) -> None:
    @registry.tool
    def pick(names: list[str] = ["a"]) -> int:  # noqa: B006  # what is tested
        return len(names)

    assert registry.call(use("pick", {}))["content"] == "1"
    assert registry.call(use("pick", {"names": []}))["content"] == "0"


def test_a_name_twice_is_refused(registry: Registry) -> None:
    with pytest.raises(UsageError, match="there is a tool 'weather' already"):
        registry.tool(weather)


@pytest.mark.parametrize("name", ["a b", "", "x" * 65, "größe", "1a"])
def test_a_name_that_a_vendor_refuses_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(UsageError):
        registry.tool(name=name or " ")(weather)


def test_parameters_without_a_schema_are_refused(registry: Registry) -> None:
    def untyped(a) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001

    def many(*names: str) -> None: ...

    def odd(a: threading.Thread) -> None: ...

    for function, says in ((untyped, "needs a type"), (many, "by its name"), (odd, "no JSON schema")):
        with pytest.raises(UsageError, match=says):
            registry.tool(function)
    assert len(registry.anthropic()) == 1


def test_results_of_a_message_of_the_anthropic_sdk(registry: Registry) -> None:
    blocks = [use("weather", {"place": {"city": city}}) | {"id": city} for city in ("Rome", "Oslo")]
    message = Message.model_validate(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": "let me see"}, *blocks],
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    )
    assert isinstance(message.content[1], ToolUseBlock)
    (answer,) = registry.results(message)
    assert answer == asyncio.run(registry.aresults(message))[0]
    assert [block["tool_use_id"] for block in answer["content"]] == ["Rome", "Oslo"]


def test_results_of_a_completion_of_the_openai_sdk(registry: Registry) -> None:
    function = {"name": "weather", "arguments": '{"place": {"city": "Rome"}}'}
    completion = ChatCompletion.model_validate(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
                    },
                }
            ],
        }
    )
    assert registry.results(completion) == [{"role": "tool", "tool_call_id": "call_1", "content": "Rome: 20 c"}]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "done"},
        {"role": "assistant", "content": [{"type": "text", "text": "done"}]},
        {"output": [{"type": "message"}]},
        {"choices": [{"message": {"content": "done"}}]},
        {"candidates": [{"content": {"parts": [{"text": "done"}]}}]},
        {},
    ],
)
def test_a_message_that_asks_for_nothing_has_no_results(registry: Registry, message: dict[str, Any]) -> None:
    assert registry.results(message) == []


def test_what_is_no_call_is_refused(registry: Registry) -> None:
    with pytest.raises(UsageError, match="isn't a call of a tool"):
        registry.call({"type": "text", "text": "x"})


def test_the_sdks_own_runners_take_the_same_functions() -> None:
    """What a recipe in the docs does."""

    def plain(city: str) -> str:
        """Tell the weather.

        Args:
            city: where
        """
        return city

    assert Registry().tool(plain) is plain
    assert anthropic.beta_tool(plain).to_dict()["name"] == "plain"
    assert openai.__version__
