"""A session that comes back from a translated upstream is read by Claude."""

import json
from typing import Any

import pytest

from tokenferry.wire import refuses_reasoning, without_sealed
from tokenferry.wire._envelope import seal
from wire.rig import ask

SEALED = {"type": "thinking", "thinking": "hm", "signature": seal("up/model")}
OWN = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
TEXT = {"type": "text", "text": "so"}
CALL = {"type": "tool_use", "id": "call_1", "name": "look", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "call_1", "content": "x"}
BUDGET = {"type": "enabled", "budget_tokens": 1024}


def turn(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def left(*turns: dict[str, Any], **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(without_sealed(ask(user(TEXT), *turns, **fields)))
    return found


def test_sealed_thoughts_are_left_out_and_others_stay() -> None:
    found = left(turn(SEALED, TEXT), user(TEXT), turn(OWN, TEXT), user(TEXT), turn(SEALED), user(TEXT), thinking=BUDGET)
    assert found["messages"][1:] == [turn(TEXT), user(TEXT), turn(OWN, TEXT), user(TEXT), user(TEXT)]
    assert found["thinking"] == BUDGET


@pytest.mark.parametrize("later", [(), ({"role": "system", "content": [TEXT]},)])
def test_results_of_calls_without_their_thoughts_are_read_without_a_budget(later: tuple[dict[str, Any], ...]) -> None:
    edits = [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919"}]
    turns = (turn(SEALED, CALL), user(RESULT), *later)
    found = left(*turns, thinking=BUDGET, context_management={"edits": edits})
    assert "thinking" not in found
    assert found["context_management"] == {"edits": edits[1:]}
    assert "thinking" not in left(turn(TEXT, OWN, CALL), user(RESULT), thinking=BUDGET), "a turn begins with thinking"
    kept = left(*turns, thinking={"type": "adaptive"}, context_management={"edits": edits})
    assert kept["thinking"] == {"type": "adaptive"}
    assert kept["context_management"] == {"edits": edits}


@pytest.mark.parametrize(
    "turns",
    [
        (turn(SEALED, CALL), user(RESULT), turn(OWN, CALL), user(RESULT)),
        (turn(SEALED, CALL), user(RESULT), turn(TEXT), user(TEXT)),
        (turn(SEALED, CALL), user(RESULT), turn({"type": "redacted_thinking", "data": "x"}, CALL), user(RESULT)),
        (turn(SEALED, TEXT), {"role": "user", "content": "words"}),
    ],
)
def test_a_budget_stays_where_nothing_is_missing(turns: tuple[dict[str, Any], ...]) -> None:
    assert left(*turns, thinking=BUDGET)["thinking"] == BUDGET


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"messages": 5, "thinking": {"type": "enabled"}}', b'{"messages": [5]}']
)
def test_what_is_no_request_stays_as_it_is(body: bytes) -> None:
    found = without_sealed(body)
    assert found == body or json.loads(found) == json.loads(body)


def test_an_account_that_may_have_written_no_thought_is_sent_none() -> None:
    """`keep_thinking=False`, after the vendor has refused a signature."""
    redacted = {"type": "redacted_thinking", "data": "x"}
    item = {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAAA"}
    body = ask(user(TEXT), turn(OWN), user(TEXT), turn(redacted, OWN, TEXT), user(TEXT), input=[item, "x"])
    found = json.loads(without_sealed(body, keep_thinking=False))
    assert found["messages"] == [user(TEXT), user(TEXT), turn(TEXT), user(TEXT)]
    assert found["input"] == [item, "x"]


@pytest.mark.parametrize(
    ("wire_format", "error"),
    [
        ("openai-responses", b'{"error": {"code": "invalid_encrypted_content", "message": "x"}}'),
        ("openai-responses", b'{"error": {"message": "The Encrypted Content could not be verified."}}'),
        ("gemini", b'{"error": {"message": "Corrupted thought signature."}}'),
        ("gemini", b'{"error": {"message": "Function call is missing a thought_signature in functionCall parts."}}'),
        ("anthropic", b'{"error": {"message": "messages.1.content.0: Invalid `signature` in `thinking` block"}}'),
        ("anthropic", b'{"error": {"message": "Expected `thinking` or `redacted_thinking`, but found `text`."}}'),
    ],
)
def test_a_refusal_of_reasoning_is_known_in_the_words_of_its_own_vendor(wire_format: str, error: bytes) -> None:
    assert refuses_reasoning(wire_format, error)
    for other in ("openai", "openai-responses", "gemini", "anthropic"):
        assert refuses_reasoning(other, error) == (other == wire_format)
        assert not refuses_reasoning(other, b'{"error": {"message": "prompt is too long"}}')
