"""Streamed answers of the Messages API that leave something out, as clients of every other format read them."""

import json
from typing import Any

import pytest

from tokenferry.wire import Codec
from wire.rig import chat_ask, chunks, from_gemini, from_responses, gemini_ask, named, responses_ask, to_messages

CLIENTS = [(to_messages(), chat_ask()), (from_responses(), responses_ask()), (from_gemini(), gemini_ask())]
START = named("message_start", message={"id": "msg_1", "model": "claude", "usage": {"input_tokens": 1}})
STOP = named("message_stop")


def call(index: int, *, is_ended: bool) -> bytes:
    block = {"type": "tool_use", "id": f"toolu_{index}", "name": f"tool_{index}", "input": {}}
    stop = named("content_block_stop", index=index) if is_ended else b""
    return named("content_block_start", index=index, content_block=block) + stop


def ended(reason: str | None) -> bytes:
    return named("message_delta", delta={"stop_reason": reason} if reason else {}, usage={"output_tokens": 2})


def translated(using: Codec, body: bytes, *pieces: bytes) -> bytes:
    stream = using.stream(using.request(body, "m"), "req_1")
    out = stream.feed(b"".join([START, *pieces, STOP])) + stream.end()
    assert stream.error is None
    return out


def calls(out: bytes) -> list[tuple[str, Any]]:
    """The names and arguments of the calls, from what any client gets."""
    found: dict[int, list[str]] = {}
    for one in chunks(out):
        if "candidates" in one:
            for part in one["candidates"][0]["content"]["parts"]:
                if "functionCall" in part:
                    found[len(found)] = [part["functionCall"]["name"], json.dumps(part["functionCall"]["args"])]
        elif one.get("type") == "response.output_item.done":
            found[one["output_index"]] = [one["item"]["name"], one["item"]["arguments"]]
        elif "choices" in one:
            for piece in one["choices"][0]["delta"].get("tool_calls", []) if one["choices"] else []:
                known = found.setdefault(piece["index"], ["", ""])
                known[0] += piece["function"].get("name", "")
                known[1] += piece["function"]["arguments"]
    return [(name, json.loads(arguments)) for name, arguments in found.values()]


@pytest.mark.parametrize(("using", "body"), CLIENTS, ids=["chat", "responses", "gemini"])
def test_a_call_whose_end_was_left_out_is_whole(using: Codec, body: bytes) -> None:
    stray = named("content_block_stop", index=7)
    out = translated(using, body, call(0, is_ended=True), call(1, is_ended=False), stray, ended("tool_use"))
    assert calls(out) == [("tool_0", {}), ("tool_1", {})]


@pytest.mark.parametrize(("using", "body"), CLIENTS, ids=["chat", "responses", "gemini"])
def test_a_later_count_without_a_stop_reason_keeps_the_reason(using: Codec, body: bytes) -> None:
    once = translated(using, body, ended("max_tokens"))
    assert translated(using, body, ended("max_tokens"), ended(None)) == once
