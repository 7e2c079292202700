"""Content of the Messages API that formats of every kind write, or refuse by name."""

import json
from typing import Any

import pytest

from tokenferry.errors import Unfit
from tokenferry.wire import Codec
from wire.rig import (
    ask,
    chat_ask,
    from_gemini,
    from_responses,
    gemini_ask,
    responses_ask,
    to_chat,
    to_gemini,
    to_messages,
    to_responses,
)

UPSTREAMS = [to_chat(documents=True), to_responses(documents=True), to_gemini()]
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
TEXT = {"type": "text", "text": "hello"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen"}


def turn(role: str, *blocks: Any) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


@pytest.mark.parametrize("using", UPSTREAMS, ids=["chat", "responses", "gemini"])
def test_documents_of_parts_and_references_to_tools_reach_the_model(using: Codec) -> None:
    document = {"type": "document", "title": "Plan", "source": {"type": "content", "content": [TEXT, PNG]}}
    reference = {"type": "tool_reference", "tool_name": "look"}
    sent = using.request(ask(turn("user", document, reference)), "m").body
    places = [sent.find(part) for part in (b"Plan", b"hello", b"AAAA", b"The tool look is available.")]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("using", UPSTREAMS, ids=["chat", "responses", "gemini"])
@pytest.mark.parametrize(
    ("turns", "word"),
    [
        ([turn("user", TEXT), turn("system", PNG)], "a system message holds image"),
        ([turn("user", TEXT), turn("assistant", PNG), turn("user", TEXT)], "an assistant's message holds image"),
        ([turn("user", TEXT), turn("assistant", {**CALL, "input": [1]}), turn("user", RESULT)], "'toolu_1' is not a"),
    ],
)
def test_content_at_a_wrong_place_is_unfit_and_named(using: Codec, turns: list[dict[str, Any]], word: str) -> None:
    with pytest.raises(Unfit, match=word):
        using.request(ask(*turns), "m")


@pytest.mark.parametrize("using", UPSTREAMS, ids=["chat", "responses", "gemini"])
def test_a_turn_of_foreign_thoughts_alone_is_not_sent(using: Codec) -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "of another"}
    found = using.request(ask(turn("user", TEXT), turn("assistant", thought), turn("user", TEXT)), "m")
    assert b"assistant" not in found.body
    assert b'"model"' not in found.body.replace(b'"model":"m"', b"")
    assert found.left_out == ("thinking",)


@pytest.mark.parametrize(
    ("using", "body"),
    [
        (to_messages(), chat_ask({"role": "system", "content": ""}, {"role": "user", "content": "hello"})),
        (from_responses(), responses_ask({"role": "user", "content": "hello"}, {"role": "developer", "content": ""})),
        (from_gemini(), gemini_ask(systemInstruction={"parts": [{"text": ""}]})),
    ],
    ids=["chat", "responses", "gemini"],
)
def test_an_empty_instruction_is_none(using: Codec, body: bytes) -> None:
    found = json.loads(using.request(body, "m").body)
    assert "system" not in found
    assert found["messages"] == [turn("user", TEXT)]
