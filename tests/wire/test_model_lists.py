"""A list of models names the same models to every client, whichever vendor wrote it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.errors import UnreadableAnswer
from tokenferry.wire import LIST_FIELDS, ModelsCodec, WireFormat, model_list

FORMATS: tuple[WireFormat, ...] = ("anthropic", "openai", "gemini")
OPENAI = {"id": "m", "object": "model", "created": 1_700_000_000, "owned_by": "v"}
ANTHROPIC = {"type": "model", "id": "m", "display_name": "M", "created_at": "2023-11-14T22:13:20Z"}
GEMINI = {"name": "models/m", "displayName": "M", "supportedGenerationMethods": ["generateContent", "countTokens"]}


def answered(client: WireFormat, document: Any, upstream: WireFormat = "openai") -> Any:
    using = ModelsCodec(client, upstream, "/models")
    asked = using.request(b"", "m")
    assert (asked.path, asked.stream) == ("/models", False)
    return json.loads(using.answer(json.dumps(document).encode(), asked)[0])


@pytest.mark.parametrize(
    ("client", "entry", "expected"),
    [
        ("anthropic", OPENAI, {**ANTHROPIC, "display_name": "m"}),
        (
            "anthropic",
            {**OPENAI, "created": None},
            {**ANTHROPIC, "display_name": "m", "created_at": "1970-01-01T00:00:00Z"},
        ),
        ("anthropic", GEMINI, {**ANTHROPIC, "created_at": "1970-01-01T00:00:00Z"}),
        ("openai", ANTHROPIC, {**OPENAI, "owned_by": "unknown"}),
        ("openai", {**ANTHROPIC, "created_at": "soon"}, {**OPENAI, "created": 0, "owned_by": "unknown"}),
        ("openai", GEMINI, {**OPENAI, "created": 0, "owned_by": "google"}),
        ("gemini", ANTHROPIC, GEMINI),
        ("gemini", OPENAI, {**GEMINI, "displayName": "m"}),
    ],
)
def test_a_model_in_each_vendors_shape(client: WireFormat, entry: dict[str, Any], expected: dict[str, Any]) -> None:
    assert answered(client, entry) == expected
    assert answered(client, {"data": [entry, entry]})[LIST_FIELDS[client]] == [expected] * 2
    assert answered(client, {"models": [entry]})[LIST_FIELDS[client]] == [expected]


@given(
    st.lists(st.tuples(st.text(min_size=1), st.integers(0, 4_102_444_799)), max_size=4),
    st.lists(st.sampled_from(FORMATS), max_size=3),
)
@settings(max_examples=effort(100))
def test_a_list_names_the_same_models_through_any_formats(models: list[tuple[str, int]], way: list[WireFormat]) -> None:
    document = model_list("openai", [{**OPENAI, "id": name, "created": at} for name, at in models])
    for client in (*way, "openai"):
        document = answered(client, document)
    known = 0 if "gemini" in way else 1
    assert [(one["id"], one["created"]) for one in document["data"]] == [(name, at * known) for name, at in models]


def test_a_page_for_clients_of_anthropic_says_where_it_begins_and_ends() -> None:
    entries = [{**ANTHROPIC, "id": name} for name in "abc"]
    assert model_list("anthropic", entries, has_more=True) == {
        "data": entries,
        "has_more": True,
        "first_id": "a",
        "last_id": "c",
    }
    assert model_list("anthropic", []) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize("created", [-1, 4_102_444_800, 10**30, True, "x", 1.5])
def test_an_impossible_date_is_an_unknown_one(created: Any) -> None:
    assert answered("anthropic", {**OPENAI, "created": created})["created_at"] == "1970-01-01T00:00:00Z"
    assert answered("openai", {**ANTHROPIC, "created_at": created})["created"] == 0


@pytest.mark.parametrize("document", [[], 1, {}, {"data": 1}, {"data": [1]}, {"models": [{}]}, {"name": 1}])
def test_anything_else_is_no_list_of_models(document: Any) -> None:
    for client in FORMATS:
        with pytest.raises(UnreadableAnswer, match="not a list of models"):
            answered(client, document)


@pytest.mark.parametrize("client", FORMATS)
def test_an_error_is_in_the_clients_shape(client: WireFormat) -> None:
    status, body = ModelsCodec(client, "openai", "/models").error(429, b'{"error": {"message": "why"}}', "req_1")
    error = json.loads(body)["error"]
    words = {
        "anthropic": ("type", "rate_limit_error"),
        "openai": ("code", "rate_limit_exceeded"),
        "gemini": ("code", 429),
    }
    assert (status, error["message"], error[words[client][0]]) == (429, "why", words[client][1])
