"""Gemini requests, translated to the Messages API, and the answers back."""

import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.errors import Unfit, UnreadableAnswer
from tokenferry.wire import Codec, Quirks, codec
from wire.rig import from_gemini, gemini_ask, sent

OUTPUT = {"output": "rain"}
CALL = {"functionCall": {"name": "weather", "args": {"city": "Zürich"}, "id": "toolu_1"}}
RESULT = {"functionResponse": {"name": "weather", "response": OUTPUT, "id": "toolu_1"}}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def model(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


def asked(*contents: dict[str, Any], using: Codec | None = None, **fields: Any) -> dict[str, Any]:
    return sent(gemini_ask(*contents, **fields), using or from_gemini())[0]


def left_out(*contents: dict[str, Any], using: Codec | None = None, **fields: Any) -> tuple[str, ...]:
    return sent(gemini_ask(*contents, **fields), using or from_gemini())[1].left_out


def refusal(*contents: dict[str, Any], **fields: Any) -> str:
    with pytest.raises(Unfit) as caught:
        asked(*contents, **fields)
    return str(caught.value)


def message(*blocks: dict[str, Any], stop: str = "end_turn") -> bytes:
    usage = {"input_tokens": 10, "output_tokens": 7, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 3}
    reported = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": list(blocks)}
    return json.dumps({**reported, "stop_reason": stop, "usage": usage}).encode()


def answered(*blocks: dict[str, Any], stop: str = "end_turn", **fields: Any) -> dict[str, Any]:
    using = from_gemini()
    body, _ = using.answer(message(*blocks, stop=stop), using.request(gemini_ask(**fields), "m"))
    found: dict[str, Any] = json.loads(body)
    return found


def test_a_conversation_keeps_its_turns_calls_and_results() -> None:
    found = asked(
        user({"text": "weather?"}),
        model({"text": "I look."}, CALL),
        user(RESULT, {"text": "and now?"}),
        systemInstruction={"parts": [{"text": "be brief"}]},
    )
    assert found["system"] == [{"type": "text", "text": "be brief"}]
    assert found["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "weather?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"},
                {"type": "text", "text": "and now?"},
            ],
        },
    ]
    assert (found["model"], found["max_tokens"]) == ("model", 32_000)


def test_three_calls_without_ids_get_the_three_results_by_name_and_order() -> None:
    calls: list[dict[str, Any]] = [{"functionCall": {"name": name, "args": {}}} for name in ("a", "b", "a")]
    results = [
        {"functionResponse": {"name": name, "response": {"output": f"{name}{n}"}}} for n, name in enumerate("aab")
    ]
    first = asked(user({"text": "go"}), model(*calls), user(*results, {"text": "beside"}))["messages"]
    ids = [block["id"] for block in first[1]["content"]]
    assert len(set(ids)) == 3
    reported = {
        block["tool_use_id"]: block["content"] for block in first[2]["content"] if block["type"] == "tool_result"
    }
    assert [reported[one] for one in ids] == ["a0", "b2", "a1"]
    later = asked(user({"text": "go"}), model(*calls), user(*results), model({"text": "so"}), user({"text": "on"}))
    assert [block["id"] for block in later["messages"][1]["content"]] == ids, "the same ids in every turn"


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ((user({"text": "x"}), model(CALL), user({"text": "y"})), "has no result"),
        ((user({"text": "x"}), model(CALL)), "has no result"),
        ((user(RESULT),), "no functionCall right before it"),
        ((user({"text": "x"}), model(CALL), user(RESULT, RESULT)), "no functionCall right before it"),
        ((user({"functionCall": {"name": "f"}}),), "a user's turn holds a functionCall"),
        ((user({"text": "x"}), model(RESULT)), "a turn of the model holds a functionResponse"),
        ((user({"unheard": {"of": 1}}),), "a part holds neither"),
        ((user({"text": " "}),), "every message of the request is empty"),
        ((user({"inlineData": {"mimeType": "audio/wav", "data": "aa=="}}),), "files of the type 'audio/wav'"),
        ((user({"inlineData": {"mimeType": "text/plain", "data": "a?b="}}),), "'text/plain' is not text in base64"),
        ((user({"fileData": {"fileUri": "gs://b/x.png", "mimeType": "image/png"}}),), "the vendor stores it"),
        (
            (user({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a"}}),),
            "the vendor stores it",
        ),
        ((user({"text": "x"}), model({"executableCode": {"code": "1"}}), user({"text": "x"})), "executableCode can't"),
        ((user({"text": "x"}), model({"functionCall": {"name": "f", "args": [1]}})), "are not a JSON object"),
    ],
)
def test_content_that_cannot_be_translated_is_unfit(contents: tuple[dict[str, Any], ...], said: str) -> None:
    assert said in refusal(*contents)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"cachedContent": "cachedContents/1"},
            "cachedContent can't be translated: the vendor stores it; send the",
        ),
        ({"tools": [{"googleSearch": {}}]}, "the server runs the tool googleSearch"),
        ({"tools": [{"code_execution": {}}]}, "the server runs the tool codeExecution"),
        ({"generationConfig": {"candidateCount": 2}}, "candidateCount must be 1"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "responseModalities must be TEXT"),
        ({"generationConfig": {"responseLogprobs": True}}, "responseLogprobs can't be translated"),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, "responseMimeType 'text/x.enum'"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "a function that is not sent"),
        ({"contents": "hello"}, "can't be translated"),
        ({"systemInstruction": {"parts": [{"functionCall": {"name": "f"}}]}}, "something other than text"),
    ],
)
def test_a_field_that_changes_the_answer_is_unfit(fields: dict[str, Any], said: str) -> None:
    assert said in refusal(**fields)


def test_hints_are_left_out_and_named_as_the_vendor_spells_them() -> None:
    settings_ = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    fields: dict[str, Any] = {
        "safetySettings": settings_,
        "labels": {"a": "b"},
        "generationConfig": {"seed": 3},
        "unheardOf": 1,
    }
    assert left_out(**fields) == ("labels", "safetySettings", "seed", "unheardOf")
    dropped = left_out(tools=[{"googleSearch": {}}], using=from_gemini(drop=("google_search",)))
    assert dropped == ("googleSearch",)


def test_both_spellings_of_a_field_are_read_and_the_clients_own_names_stay() -> None:
    arguments = {"some_name": {"parts": {"text_a": 1}}}
    found = asked(
        {"parts": {"inline_data": {"mime_type": "image/png", "data": "aa=="}}},
        model({"function_call": {"name": "f", "args": arguments, "id": "c"}}),
        user({"function_response": {"name": "f", "id": "c", "response": {"some_name": 1, "other_name": 2}}}),
        system_instruction={"parts": {"text": "sys"}},
        generation_config={"max_output_tokens": 5, "stop_sequences": ["x", " "], "top_k": 3.0},
    )
    assert found["system"][0]["text"] == "sys"
    assert found["messages"][0]["content"][0]["source"] == {"type": "base64", "media_type": "image/png", "data": "aa=="}
    assert found["messages"][1]["content"][0]["input"] == arguments
    assert json.loads(found["messages"][2]["content"][0]["content"]) == {"some_name": 1, "other_name": 2}
    assert (found["max_tokens"], found["stop_sequences"], found["top_k"]) == (5, ["x"], 3)


def test_files_are_images_documents_or_texts() -> None:
    parts = [
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        {"inlineData": {"mimeType": "text/csv; charset=utf-8", "data": b64encode("a,ü".encode()).decode()}},
        {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}},
    ]
    found = asked(user(*parts))["messages"][0]["content"]
    assert [block["type"] for block in found] == ["document", "document", "image"]
    assert [block["source"]["type"] for block in found] == ["base64", "text", "url"]
    assert found[1]["source"]["data"] == "a,ü"


def test_a_result_may_be_an_error_or_hold_an_image() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "aa=="}}
    calls = [{"functionCall": {"name": name, "id": name}} for name in "abc"]
    results: list[dict[str, Any]] = [
        {"name": "a", "id": "a", "response": {"error": "no such place"}},
        {"name": "b", "id": "b", "response": {"output": "seen"}, "parts": [image]},
        {"name": "c", "id": "c", "response": {"result": {"deep": 1}}},
    ]
    found = asked(user({"text": "x"}), model(*calls), user(*({"functionResponse": one} for one in results)))
    first, second, third = found["messages"][2]["content"]
    assert (first["content"], first["is_error"]) == ("no such place", True)
    assert [block["type"] for block in second["content"]] == ["text", "image"]
    assert (third["content"], "is_error" in third) == ('{"deep":1}', False)


def test_openapi_schemas_become_json_schemas() -> None:
    parameters = {
        "type": "OBJECT",
        "properties": {
            "where": {"type": "STRING", "format": "enum", "enum": ["here"], "nullable": True},
            "type": {"type": "ARRAY", "items": {"type": "NUMBER"}, "min_items": "1", "maxItems": "3"},
            "any": {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}], "nullable": True},
            "both": {"type": ["OBJECT", "NULL"], "additionalProperties": True},
        },
        "required": ["where"],
        "propertyOrdering": ["type", "where"],
    }
    plain = {"type": "object", "properties": {"some_name": {"const": "X", "nullable": True}}, "$comment": "as it is"}
    found = asked(
        tools=[
            {"functionDeclarations": [{"name": "a", "parameters": parameters}, {"name": "b"}]},
            {"functionDeclarations": [{"name": "c", "description": "d", "parametersJsonSchema": plain}]},
        ]
    )["tools"]
    assert found[0]["input_schema"] == {
        "type": "object",
        "properties": {
            "where": {"type": ["string", "null"], "enum": ["here", None]},
            "type": {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3},
            "any": {"anyOf": [{"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"type": "null"}]},
            "both": {"type": ["object", "null"], "additionalProperties": True},
        },
        "required": ["where"],
    }
    assert found[1]["input_schema"] == {"type": "object", "properties": {}}
    assert (found[2]["input_schema"], found[2]["description"]) == (plain, "d")


TOOLS = [{"functionDeclarations": [{"name": "a"}, {"name": "b"}, {"name": "c.d:e"}]}]


@pytest.mark.parametrize(
    ("config", "choice", "names"),
    [
        ({"mode": "AUTO"}, {"type": "auto"}, 3),
        ({"mode": "VALIDATED"}, {"type": "auto"}, 3),
        ({"mode": "NONE"}, {"type": "none"}, 3),
        ({"mode": "ANY"}, {"type": "any"}, 3),
        ({"mode": "ANY", "allowedFunctionNames": ["a", "b"]}, {"type": "any"}, 2),
        ({"mode": "ANY", "allowedFunctionNames": ["b"]}, {"type": "tool", "name": "b"}, 1),
        ({}, None, 3),
    ],
)
def test_how_a_tool_is_chosen(config: dict[str, Any], choice: dict[str, Any] | None, names: int) -> None:
    found = asked(tools=TOOLS, toolConfig={"functionCallingConfig": config})
    assert found.get("tool_choice") == choice
    assert len(found["tools"]) == names


def test_a_name_that_claude_refuses_is_restored_in_the_answer() -> None:
    using = from_gemini()
    body, known = sent(gemini_ask(tools=TOOLS), using)
    name = body["tools"][2]["name"]
    assert "." not in name
    call = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
    answer = json.loads(using.answer(message(call, stop="tool_use"), known)[0])
    assert answer["candidates"][0]["content"]["parts"][0]["functionCall"]["name"] == "c.d:e"


@pytest.mark.parametrize(
    ("thinking", "form", "expected"),
    [
        ({"thinkingBudget": 2000}, "budget", {"type": "enabled", "budget_tokens": 4096}),
        ({"thinkingBudget": -1}, "budget", {"type": "enabled", "budget_tokens": 16384}),
        ({"thinkingLevel": "HIGH"}, "adaptive", {"type": "adaptive"}),
        ({"thinkingBudget": 0}, "budget", None),
        ({"includeThoughts": True}, "budget", None),
    ],
)
def test_thinking_is_asked_for_in_the_models_form(thinking: dict[str, Any], form: Any, expected: Any) -> None:
    found = asked(using=from_gemini(thinking=form), generationConfig={"thinkingConfig": thinking})
    assert found.get("thinking") == expected
    assert left_out(generationConfig={"thinkingConfig": {"thinkingLevel": "LOW"}}) == ("thinkingConfig",)


def test_json_is_asked_for_by_schema_or_by_instruction() -> None:
    schema = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}
    closed = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    kind = {"responseMimeType": "application/json"}
    found = asked(generationConfig={**kind, "responseSchema": schema})
    assert found["output_config"]["format"] == {"type": "json_schema", "schema": closed}
    found = asked(generationConfig={**kind, "responseJsonSchema": {**closed, "additionalProperties": True}})
    assert found["output_config"]["format"]["schema"] == closed
    assert "JSON" in asked(generationConfig=kind)["system"][0]["text"]


def test_an_answer_has_its_parts_its_reason_and_its_usage() -> None:
    found = answered(
        {"type": "text", "text": "It rains."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        stop="tool_use",
    )
    assert found == {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "It rains."}, CALL]}, "index": 0, "finishReason": "STOP"}
        ],
        "usageMetadata": {
            "promptTokenCount": 33,
            "candidatesTokenCount": 7,
            "totalTokenCount": 40,
            "cachedContentTokenCount": 20,
        },
        "modelVersion": "claude",
        "responseId": "msg_1",
    }
    for stop, reason in (("max_tokens", "MAX_TOKENS"), ("refusal", "SAFETY"), ("stop_sequence", "STOP")):
        assert answered(stop=stop)["candidates"][0]["finishReason"] == reason
    with pytest.raises(UnreadableAnswer):
        from_gemini().answer(b"[]", from_gemini().request(gemini_ask(), "m"))


THOUGHT = {"type": "thinking", "thinking": "Hm. 🌧️", "signature": "sig+/=="}
REDACTED = {"type": "redacted_thinking", "data": "secret"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}}
SHOWN = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}


def parts_of(*blocks: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answered(*blocks, **fields)["candidates"][0]["content"]["parts"]
    return found


def test_thoughts_are_shown_on_request_and_return_in_the_signature_of_the_next_part() -> None:
    text = {"type": "text", "text": "I look."}
    parts = parts_of(THOUGHT, text, REDACTED, USE, **SHOWN)
    assert [bool(part.get("thought")) for part in parts] == [True, False, False]
    assert [("thoughtSignature" in part) for part in parts] == [False, True, True]
    assert parts[1:] == parts_of(THOUGHT, text, REDACTED, USE), "who doesn't ask gets the signatures alone"
    for kept in (parts, parts[1:]):
        body, known = sent(gemini_ask(user({"text": "x"}), model(*kept), user(RESULT)), from_gemini())
        assert body["messages"][1]["content"] == [THOUGHT, text, REDACTED, USE]
        assert known.left_out == ()


def test_a_signature_is_base64_and_both_alphabets_are_read() -> None:
    signature = parts_of(THOUGHT, USE)[0]["thoughtSignature"]
    raw = b64decode(signature, validate=True)
    for spelled in (signature, urlsafe_b64encode(raw).decode(), signature.rstrip("=")):
        found = asked(user({"text": "x"}), model({**CALL, "thoughtSignature": spelled}), user(RESULT))
        assert found["messages"][1]["content"][0] == THOUGHT


def test_a_picture_with_a_signature_stays_and_a_signature_alone_is_nothing() -> None:
    """Gemini's models sign the pictures that they draw."""
    picture = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}, "thoughtSignature": "c2ln"}
    turns = user({"text": "draw"}), model({"text": "so"}, picture, {"thoughtSignature": "c2ln"}), user({"text": "on"})
    assert [block["type"] for block in asked(*turns)["messages"][1]["content"]] == ["text", "image"]
    assert left_out(*turns) == ("thoughtSignature",)


def test_another_models_thoughts_are_left_out() -> None:
    part = parts_of(THOUGHT, USE)[0]
    other = codec("gemini", "anthropic", Quirks(), domain="other/model")
    foreign = {**part, "thoughtSignature": "Q29ycnVwdA=="}
    for one, using in ((part, other), (foreign, from_gemini())):
        body, known = sent(gemini_ask(user({"text": "x"}), model(one), user(RESULT)), using)
        assert body["messages"][1]["content"] == [USE]
        assert known.left_out == ("thoughtSignature",)
    dummy = {**CALL, "thoughtSignature": "skip_thought_signature_validator"}
    assert left_out(user({"text": "x"}), model(dummy), user(RESULT)) == ()


def test_no_budget_is_asked_for_after_a_call_without_its_thought() -> None:
    fields: dict[str, Any] = {"generationConfig": {"thinkingConfig": {"thinkingBudget": 5000}}}
    fields["using"] = from_gemini(thinking="budget")
    contents = user({"text": "x"}), model(CALL), user(RESULT)
    assert "thinking" not in asked(*contents, **fields)
    kept = model(*parts_of(THOUGHT, USE))
    assert asked(contents[0], kept, contents[2], **fields)["thinking"]["type"] == "enabled"


def test_errors_have_the_vendors_shape() -> None:
    using = from_gemini()
    for status, code, name in (
        (400, 400, "INVALID_ARGUMENT"),
        (401, 401, "UNAUTHENTICATED"),
        (402, 429, "RESOURCE_EXHAUSTED"),
        (403, 403, "PERMISSION_DENIED"),
        (404, 404, "NOT_FOUND"),
        (429, 429, "RESOURCE_EXHAUSTED"),
        (500, 500, "INTERNAL"),
        (529, 503, "UNAVAILABLE"),
        (504, 504, "DEADLINE_EXCEEDED"),
    ):
        reported = b'{"type":"error","error":{"type":"x","message":"because"}}'
        found, body = using.error(status, reported, "req_1")
        assert found == code
        assert json.loads(body) == {"error": {"code": code, "message": "because", "status": name}}


values = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | st.integers(-5, 5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
parts = st.fixed_dictionaries(
    {},
    optional={
        "text": values,
        "thought": values,
        "thoughtSignature": values,
        "functionCall": values,
        "function_response": values,
        "inlineData": values,
        "odd": values,
    },
)
contents_ = st.lists(
    st.fixed_dictionaries(
        {"parts": st.lists(parts, max_size=3)}, optional={"role": st.sampled_from(["user", "model"])}
    ),
    max_size=4,
)


@settings(max_examples=effort(150))
@given(contents_ | values, values, values, values)
def test_any_request_is_translated_or_unfit(contents: Any, tools: Any, config: Any, system: Any) -> None:
    body = {"model": "g", "contents": contents, "tools": tools, "generationConfig": config, "systemInstruction": system}
    try:
        found = from_gemini().request(json.dumps(body).encode(), "m")
    except Unfit:
        return
    assert json.loads(found.body)["messages"]


@settings(max_examples=effort(100))
@given(values)
def test_any_schema_becomes_a_json_schema(schema: Any) -> None:
    tool = {"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": schema}}]}
    assert asked(tools=[tool])["tools"][0]["input_schema"]["type"] == "object"


@pytest.mark.parametrize("half", ["\\ud83c", "\\udf27"])
def test_half_a_surrogate_pair_becomes_one_question_mark(half: str) -> None:
    """Clients cut texts in the middle of one."""
    contents = (
        user({"text": "x"}),
        model(CALL),
        user({"functionResponse": {**RESULT["functionResponse"], "response": {}}}),
    )
    schema = {"type": "OBJECT", "description": "HALF"}
    body = gemini_ask(*contents, tools=[{"functionDeclarations": [{"name": "f", "parameters": schema}]}])
    written = body.replace(b"HALF", half.encode()).replace(b'"response": {}', f'"response": {{"a": "{half}"}}'.encode())
    found = json.loads(from_gemini().request(written, "m").body)
    assert found["tools"][0]["input_schema"]["description"] == "?"
    assert json.loads(found["messages"][2]["content"][0]["content"]) == {"a": "?"}


def test_what_a_client_may_say_of_itself_changes_nothing() -> None:
    """One candidate, no arguments, and no choice of functions are what is asked for anyway."""
    call = {"functionCall": {"name": "f", "args": None}}
    response = {"functionResponse": {"name": "f", "response": OUTPUT}}
    tools = [{"functionDeclarations": [{"name": "f"}]}]
    said: dict[str, Any] = {
        "generationConfig": {"candidateCount": 1},
        "toolConfig": {"includeServerSideToolInvocations": False},
    }
    found = asked(user({"text": "x"}), model(call), user(response), tools=tools, **said)
    assert found["messages"][1]["content"][0]["input"] == {}
    assert [tool["name"] for tool in found["tools"]] == ["f"]
    assert "tool_choice" not in found


def test_a_document_by_url_and_a_later_instruction_stay_at_their_places() -> None:
    url = "https://x.example/y.pdf"
    pdf = {"fileData": {"fileUri": url, "mimeType": "application/pdf"}}
    (turn,) = asked(user(pdf), {"role": "system", "parts": [{"text": "be brief"}]})["messages"]
    assert turn["content"] == [
        {"type": "document", "source": {"type": "url", "url": url}},
        {"type": "text", "text": "<system-reminder>\nbe brief\n</system-reminder>"},
    ]


@pytest.mark.parametrize(
    ("budget", "effort_"),
    [(0, "none"), (-1, "medium"), (1, "low"), (4096, "low"), (4097, "medium"), (16_384, "medium"), (16_385, "high")],
)
def test_a_thinking_budget_is_an_effort_of_another_model(budget: int, effort_: str) -> None:
    using = codec("gemini", "openai", Quirks(efforts=("none", "low", "medium", "high")), domain="up/model")
    assert using is not None
    config = {"thinkingConfig": {"thinkingBudget": budget}}
    assert json.loads(using.request(gemini_ask(generationConfig=config), "m").body)["reasoning_effort"] == effort_


def test_files_in_base64_for_urls_are_read_as_google_reads_them() -> None:
    """Google's SDKs write `-` and `_`; the Messages API takes the standard's letters alone."""
    given, words = b"\xfb\xef\xbe?>", "\u07ff\u07bf"
    said = [urlsafe_b64encode(one).decode() for one in (given, words.encode())]
    assert {"-", "_"} <= set("".join(said))
    kinds = zip(("image/png", "text/plain"), said, strict=True)
    (turn,) = asked(user(*({"inlineData": {"mimeType": kind, "data": data}} for kind, data in kinds)))["messages"]
    assert [block["source"]["data"] for block in turn["content"]] == [b64encode(given).decode(), words]


def test_a_dropped_server_tool_is_the_only_one_that_is_left_out() -> None:
    tools = [{"functionDeclarations": [{"name": "f"}], "googleSearch": {}}]
    found, remembered = sent(gemini_ask(tools=tools), from_gemini(drop=("google_search",)))
    assert ([tool["name"] for tool in found["tools"]], remembered.left_out) == (["f"], ("googleSearch",))
    with pytest.raises(Unfit, match="the server runs the tool googleSearch"):
        from_gemini(drop=("code_execution",)).request(gemini_ask(tools=tools), "m")


def test_a_result_answers_the_call_with_its_id_whichever_came_first() -> None:
    calls: list[dict[str, Any]] = [{"functionCall": {"name": "f", "id": known}} for known in ("a", "b")]
    results = [
        {"functionResponse": {"name": "f", "id": known, "response": {"output": f"of {known}"}}} for known in ("b", "a")
    ]
    found = asked(user({"text": "x"}), model(*calls), user(*results), stream=True)
    assert [(one["tool_use_id"], one["content"]) for one in found["messages"][2]["content"]] == [
        ("b", "of b"),
        ("a", "of a"),
    ]
    assert found["stream"] is True


def test_a_result_of_several_fields_is_no_error() -> None:
    response = {"functionResponse": {**RESULT["functionResponse"], "response": {"error": None, "output": "rain"}}}
    (block,) = asked(user({"text": "x"}), model(CALL), user(response))["messages"][2]["content"]
    assert json.loads(block["content"]) == {"error": None, "output": "rain"}
    assert "is_error" not in block
