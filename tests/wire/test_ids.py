"""Ids of calls and names of tools, in the forms that formats and vendors accept."""

import json
import re
from typing import Any

import pytest

from tokenferry.wire import Codec
from tokenferry.wire._ids import IdForm, call_id
from wire.rig import DONE, ask, chunk, events, fragment, named, sent, to_chat, to_gemini, to_responses, translated

KIMI = "functions.get:0"
LONG = "toolu_" + "a" * 40


def answered(using: Codec, document: dict[str, Any]) -> list[str]:
    body, _ = using.answer(json.dumps(document).encode(), using.request(ask(), "m"))
    return [block["id"] for block in json.loads(body)["content"]]


def of_chat(first: str, second: str) -> tuple[list[str], list[str]]:
    calls = [{"id": known, "function": {"name": "f", "arguments": "{}"}} for known in (first, second)]
    out = translated(
        *(chunk(fragment(at, id=known, name="f", arguments="{}")) for at, known in enumerate((first, second))),
        chunk({}, "tool_calls"),
        DONE,
    )
    choice = {"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}
    return begun(out), answered(to_chat(), {"id": "chatcmpl-1", "choices": [choice]})


def of_responses(first: str, second: str) -> tuple[list[str], list[str]]:
    items = [{"type": "function_call", "call_id": one, "name": "f", "arguments": "{}"} for one in (first, second)]
    answer = {"id": "resp_1", "status": "completed", "output": items}
    using = to_responses()
    stream = using.stream(using.request(ask(stream=True), "m"), "req_1")
    created = named("response.created", response={"id": "resp_1"})
    out = stream.feed(created + named("response.completed", response=answer)) + stream.end()
    return begun(out), answered(using, answer)


def begun(out: bytes) -> list[str]:
    return [event["content_block"]["id"] for event in events(out) if event["type"] == "content_block_start"]


@pytest.mark.parametrize("calls", [of_chat, of_responses])
def test_clients_get_ids_in_claudes_letters_and_none_twice(calls: Any) -> None:
    """Claude takes over a conversation only with such ids; Kimi and vLLM write others, and some servers one twice."""
    streamed, whole = calls(KIMI, "call_1")
    assert streamed == whole
    assert all(re.fullmatch("[A-Za-z0-9_-]+", known) for known in whole)
    assert whole[1] == "call_1"
    streamed, whole = calls("call_1", "call_1")
    assert streamed == whole
    assert whole[0] == "call_1" != whole[1]


@pytest.mark.parametrize("name", ["1" + "a" * 63, "-x", "9"])
def test_gemini_gets_names_that_begin_with_a_letter_and_are_no_longer(name: str) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
    body = ask(
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "r"}]},
        tools=[{"name": one, "input_schema": {"type": "object"}} for one in (name, f"_{name}"[:64])],
        tool_choice={"type": "tool", "name": name},
    )
    document, found = sent(body, to_gemini())
    declared, other = (one["name"] for one in document["tools"][0]["functionDeclarations"])
    assert re.fullmatch("[A-Za-z_][A-Za-z0-9_-]{0,63}", declared)
    assert declared != other
    assert found.names[declared] == name
    assert document["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"] == [declared]
    assert document["contents"][0]["parts"][0]["functionCall"]["name"] == declared


@pytest.mark.parametrize(
    ("form", "known", "pattern"),
    [
        ("short", "toolu_1", "toolu_1"),
        ("short", LONG, r"[A-Za-z0-9_-]{1,40}"),
        ("short", KIMI, r"[A-Za-z0-9_-]{1,40}"),
        ("nine", "toolu_1", r"[A-Za-z0-9]{9}"),
        ("any", LONG, LONG),
        ("any", KIMI, r"[A-Za-z0-9_-]{1,40}"),
    ],
)
def test_an_id_has_its_form_and_stays_if_it_fits(form: IdForm, known: str, pattern: str) -> None:
    found = call_id(known, form)
    assert re.fullmatch(pattern, found)
    assert call_id(f"{known}x", form) != found
