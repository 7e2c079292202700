import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tokenferry.sandbox import Sandbox

Say = Callable[..., httpx2.Response]
TOOL = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer"}},
    },
}


def events(answer: httpx2.Response) -> list[dict[str, Any]]:
    found = []
    for part in answer.text.split("\n\n")[:-1]:
        name, data = part.split("\n")
        document = json.loads(data.removeprefix("data: "))
        assert name == f"event: {document['type']}"
        found.append(document)
    return found


def names(answer: httpx2.Response) -> list[str]:
    return [event["type"] for event in events(answer)]


def test_events_come_in_the_order_of_the_api(say: Say) -> None:
    answer = say(stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = names(answer)
    assert found[:4] == ["message_start", "ping", "content_block_start", "content_block_delta"]
    assert found[-4:] == ["content_block_delta", "content_block_stop", "message_delta", "message_stop"]
    assert set(found[3:-3]) == {"content_block_delta"}


def test_a_stream_tells_the_same_as_a_whole_answer(say: Say) -> None:
    whole = say("  Grüße,\n\nund  ⛴ 🚢  ").json()
    found = events(say("  Grüße,\n\nund  ⛴ 🚢  ", stream=True))
    text = "".join(event["delta"]["text"] for event in found if event["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]
    assert found[0]["message"]["usage"]["output_tokens"] == 1
    assert found[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert found[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_characters_go_out_as_utf_8(say: Say) -> None:
    assert "⛴".encode() in say(stream=True).content


def test_thinking_takes_the_knob_and_the_request(say: Say, sandbox: Sandbox) -> None:
    thinking = {"type": "adaptive"}
    assert len(say(thinking=thinking).json()["content"]) == 1
    sandbox.settings(answer={"thinking": True})
    assert len(say().json()["content"]) == 1
    deltas = [e["delta"]["type"] for e in events(say(thinking=thinking, stream=True)) if "delta" in e and "index" in e]
    assert deltas[0] == "thinking_delta"
    assert deltas.index("signature_delta") < deltas.index("text_delta")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}, None])
def test_a_tool_is_called_where_the_choice_or_the_knob_asks(
    choice: dict[str, str] | None,
    say: Say,
    sandbox: Sandbox,
) -> None:
    sandbox.settings(answer={"tool": choice is None})
    found = events(say(stream=True, tools=[TOOL], tool_choice=choice))
    start = next(e for e in found if e["type"] == "content_block_start" and e["index"] == 1)
    assert (start["content_block"]["name"], start["content_block"]["input"]) == ("weather", {})
    parts = [e["delta"]["partial_json"] for e in found if e.get("delta", {}).get("type") == "input_json_delta"]
    assert len(parts) > 2
    assert json.loads("".join(parts)) == {"city": "Zürich ⛴", "unit": "C", "days": 1}
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_tools_alone_are_not_called(say: Say) -> None:
    assert say(tools=[TOOL]).json()["stop_reason"] == "end_turn"


def test_citations_take_the_knob(say: Say, sandbox: Sandbox) -> None:
    sandbox.settings(answer={"citations": True})
    deltas = [e["delta"]["type"] for e in events(say(stream=True)) if "delta" in e and "index" in e]
    assert deltas[-1] == "citations_delta"
    assert say().json()["content"][0]["citations"][0]["type"] == "char_location"


def test_the_text_can_be_set_for_long_streams(say: Say, sandbox: Sandbox) -> None:
    text = "ä" * 5000
    sandbox.settings(answer={"text": text})
    found = events(say(stream=True, max_tokens=1000))
    assert "".join(e["delta"]["text"] for e in found if e["type"] == "content_block_delta") == text
