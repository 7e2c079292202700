"""A session that comes back from a translated upstream is read by Claude."""

import json
from typing import Any

import pytest

from tokenferry.wire import without_sealed
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
