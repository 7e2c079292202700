"""A whole answer says the same as its stream, to clients of every format and from upstreams of every format."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.wire import Codec
from wire.rig import (
    DONE,
    ask,
    chat_ask,
    chunk,
    chunks,
    events,
    fragment,
    from_gemini,
    from_responses,
    gemini_ask,
    message,
    named,
    responses_ask,
    to_chat,
    to_messages,
    to_responses,
)

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)
LONG = "look_" * 30
INPUTS = st.dictionaries(WORDS, st.none() | st.integers(-9, 9) | WORDS, max_size=2)
COUNT = st.none() | st.integers(0, 10**6)
CALLS = st.lists(st.tuples(st.sampled_from(["look", LONG, "patch", "space__close"]), INPUTS), max_size=3)
BLOCKS = st.lists(
    st.one_of(
        WORDS.map(lambda words: {"type": "text", "text": words}),
        st.tuples(WORDS, st.sampled_from(["", "sig"])).map(
            lambda given: {"type": "thinking", "thinking": given[0], "signature": given[1]}
        ),
        WORDS.map(lambda words: {"type": "redacted_thinking", "data": words}),
        CALLS.filter(bool).map(lambda calls: {"type": "tool_use", "name": calls[0][0], "input": calls[0][1]}),
    ),
    max_size=5,
)
DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """An answer of the Messages API."""
    blocks = [
        {**block, "id": f"toolu_{place}"} if block["type"] == "tool_use" else block
        for place, block in enumerate(draw(BLOCKS))
    ]
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    usage = {name: count for name in names if (count := draw(COUNT)) is not None}
    reason = draw(st.sampled_from(["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal"]))
    return {
        "id": "msg_1",
        "model": draw(st.sampled_from(["", "m1"])),
        "content": blocks,
        "stop_reason": reason,
        "usage": usage,
    }


def streamed(answer: dict[str, Any]) -> bytes:
    """The answer as a stream: its input is counted at the beginning, its output at the end."""
    usage = dict(answer["usage"])
    output = {"output_tokens": usage.pop("output_tokens")} if "output_tokens" in usage else {}
    out = named(
        "message_start", message={"id": answer["id"], "model": answer["model"], "usage": {**usage, "output_tokens": 1}}
    )
    for index, block in enumerate(answer["content"]):
        kind, field = DELTAS.get(block["type"], ("", ""))
        empty: dict[str, dict[str, Any]] = {
            "tool_use": {"input": {}},
            "thinking": {"thinking": "", "signature": ""},
            "text": {"text": ""},
        }
        begun = {**block, **empty.get(block["type"], {})}
        out += named("content_block_start", index=index, content_block=begun)
        if kind:
            said = json.dumps(block["input"]) if kind == "input_json_delta" else block[field]
            for piece in (said[:2], said[2:]):
                out += named("content_block_delta", index=index, delta={"type": kind, field: piece})
        if block.get("signature"):
            out += named(
                "content_block_delta", index=index, delta={"type": "signature_delta", "signature": block["signature"]}
            )
        out += named("content_block_stop", index=index)
    return (
        out
        + named("message_delta", delta={"stop_reason": answer["stop_reason"]}, usage=output or {"output_tokens": 0})
        + named("message_stop")
    )


def both(using: Codec, body: bytes, answer: dict[str, Any], stream_: bytes) -> tuple[dict[str, Any], bytes]:
    """The whole answer and the stream, as the client gets them. Their token counts are the same."""
    asked = using.request(body, "model", at=9)
    whole, counted = using.answer(json.dumps(answer).encode(), asked)
    stream = using.stream(asked, "req_1")
    out = stream.feed(stream_) + stream.end()
    assert (stream.is_complete, stream.error) == (True, None)
    for name in ("input", "output", "cache_read", "cache_creation"):
        assert (getattr(stream.usage, name) or 0) == (getattr(counted, name) or 0)
    return json.loads(whole), out


@given(answers())
@settings(max_examples=effort(50))
def test_an_answer_for_a_client_of_chat_completions(answer: dict[str, Any]) -> None:
    tools = [{"type": "function", "function": {"name": LONG, "parameters": {"type": "object"}}}]
    whole, out = both(
        to_messages(), chat_ask(tools=tools, stream_options={"include_usage": True}), answer, streamed(answer)
    )
    said: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    calls: dict[int, Any] = {}
    for one in chunks(out):
        assert (one["id"], one["created"], one["model"]) == (whole["id"], whole["created"], whole["model"])
        for choice in one["choices"]:
            for name in choice["delta"].keys() & {"content", "reasoning_content"}:
                said[name] = said.get(name, "") + choice["delta"][name]
            for call in choice["delta"].get("tool_calls", ()):
                known = calls.setdefault(call.pop("index"), {"function": {"arguments": ""}})
                call["function"]["arguments"] = known["function"]["arguments"] + call["function"]["arguments"]
                known |= {**call, "function": {**known["function"], **call["function"]}}
    finish = [choice["finish_reason"] for one in chunks(out) for choice in one["choices"] if choice["finish_reason"]]
    if calls:
        said |= {"content": said["content"] or None, "tool_calls": [calls[index] for index in sorted(calls)]}
    for call in [*calls.values(), *whole["choices"][0]["message"].get("tool_calls", ())]:
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    assert whole["choices"] == [{"index": 0, "message": said, "logprobs": None, "finish_reason": finish[0]}]
    assert list(chunks(out))[-1]["usage"] == whole["usage"]


@given(answers())
@settings(max_examples=effort(50))
def test_an_answer_for_a_client_of_responses(answer: dict[str, Any]) -> None:
    space = {"type": "namespace", "name": "space", "tools": [{"type": "function", "name": "close"}]}
    tools = [{"type": "custom", "name": "patch"}, {"type": "function", "name": LONG}, space]
    whole, out = both(from_responses(), responses_ask(tools=tools), answer, streamed(answer))
    last = events(out)[-1]["response"]
    for item in [*whole["output"], *last["output"]]:
        if item["type"] == "function_call" or item.get("input", "").startswith("{"):
            field = "arguments" if "arguments" in item else "input"
            item[field] = json.loads(item[field])
    assert last == whole


@given(answers(), st.booleans())
@settings(max_examples=effort(50))
def test_an_answer_for_a_client_of_gemini(answer: dict[str, Any], is_shown: bool) -> None:  # noqa: FBT001
    tools = [{"functionDeclarations": [{"name": LONG}]}]
    config = {"thinkingConfig": {"includeThoughts": is_shown}}
    whole, out = both(from_gemini(), gemini_ask(tools=tools, generationConfig=config), answer, streamed(answer))
    *_, last = chunks(out)
    last["candidates"][0]["content"]["parts"] = joined(
        [part for one in chunks(out) for part in one["candidates"][0]["content"]["parts"]]
    )
    content = whole["candidates"][0]["content"]
    content["parts"] = joined(content["parts"])
    assert last == whole


def joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts with adjacent texts of one kind joined, as SDKs show them."""
    found: list[dict[str, Any]] = []
    for part in parts:
        before = found[-1] if found else {}
        if "text" in before and "text" in part and before.get("thought") == part.get("thought"):
            before["text"] += part["text"]
        elif part != {"text": ""}:
            found.append(part)
    return found


@given(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9), CALLS, st.data())
@settings(max_examples=effort(50))
def test_an_answer_of_chat_completions(
    thoughts: str, text: str, refusal: str, calls: list[tuple[str, dict[str, Any]]], data: st.DataObject
) -> None:
    finish = data.draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "prompt_cache_hit_tokens": data.draw(COUNT)}
    written: list[dict[str, Any]] = [
        {"id": known, "function": {"name": name, "arguments": json.dumps(given)}}
        for place, (name, given) in enumerate(calls)
        for known in [data.draw(st.sampled_from([None, f"call_{place}"]))]
    ]
    said: dict[str, Any] = {"reasoning": thoughts, "content": text, "refusal": refusal, "tool_calls": written}
    answer = {
        "id": "c1",
        "model": "",
        "choices": [{"index": 0, "message": said, "finish_reason": finish}],
        "usage": usage,
    }
    pieces = [chunk({name: part}, **HEAD) for name in ("reasoning", "content", "refusal") for part in said[name]]
    for index, call in enumerate(written):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        pieces.append(chunk(fragment(index, id=call["id"], name=name, arguments=arguments[:2]), **HEAD))
        pieces.append(chunk(fragment(index, arguments=arguments[2:]), **HEAD))
    pieces += [chunk(finish=finish, **HEAD), chunk(choices=[], usage=usage), DONE]
    whole, out = both(to_chat(), ask(tools=[{"name": LONG, "input_schema": {}}]), answer, b"".join(pieces))
    assert without_end(message(out)) == whole


HEAD: Any = {"id": "c1", "model": ""}


@given(
    st.lists(st.tuples(st.sampled_from(["message", "refusal", "reasoning"]), st.lists(WORDS, max_size=2))),
    CALLS,
    st.data(),
)
@settings(max_examples=effort(50))
def test_an_answer_of_responses(
    texts: list[tuple[str, list[str]]], calls: list[tuple[str, dict[str, Any]]], data: st.DataObject
) -> None:
    items = [item(place, kind, words) for place, (kind, words) in enumerate(texts)]
    for name, arguments in calls:
        place = len(items)
        known = data.draw(st.sampled_from([None, f"call_{place}"]))
        call = {"type": "function_call", "id": f"fc_{place}", "call_id": known, "name": name}
        items.append({**call, "arguments": json.dumps(arguments)})
    reason = data.draw(st.sampled_from([None, "max_output_tokens", "content_filter"]))
    status = "incomplete" if reason else "completed"
    answer = {"id": "r1", "model": "", "status": status, "incomplete_details": {"reason": reason}, "output": items}
    answer["usage"] = {"input_tokens": 100, "output_tokens": 20}
    pieces = [named("response.created", response={"id": "r1", "model": ""})]
    for place, one in enumerate(items):
        in_pieces = data.draw(st.booleans())
        if in_pieces or data.draw(st.booleans()):
            bare = {name: value for name, value in one.items() if name not in {"content", "summary", "arguments"}}
            pieces.append(named("response.output_item.added", output_index=place, item=bare))
        pieces += item_deltas(place, one) if in_pieces else []
        pieces.append(named("response.output_item.done", output_index=place, item=one))
    last = named(f"response.{status}", response=answer)
    asked = ask(tools=[{"name": LONG, "input_schema": {}}])
    whole, out = both(to_responses(), asked, answer, b"".join([*pieces, last]))
    assert without_end(message(out)) == whole
    assert both(to_responses(), asked, answer, last)[1].count(b"event: content_block_start") == len(whole["content"])


def item(place: int, kind: str, words: list[str]) -> dict[str, Any]:
    if kind == "reasoning":
        summary = [{"type": "summary_text", "text": one} for one in words]
        encrypted = "gAAAA" if place % 2 else None
        return {"type": "reasoning", "id": f"rs_{place}", "summary": summary, "encrypted_content": encrypted}
    parts = [
        {"type": "refusal", "refusal": one} if kind == "refusal" else {"type": "output_text", "text": one}
        for one in words
    ]
    return {"type": "message", "id": f"msg_{place}", "content": parts}


def item_deltas(place: int, one: dict[str, Any]) -> list[bytes]:
    found = [
        named("response.reasoning_summary_text.delta", output_index=place, summary_index=number, delta=part["text"])
        for number, part in enumerate(one.get("summary", ()))
    ]
    for part in one.get("content", ()):
        kind, text = ("refusal", part["refusal"]) if "refusal" in part else ("output_text", part["text"])
        found.append(named(f"response.{kind}.delta", output_index=place, delta=text))
        found.append(named(f"response.{kind}.done", output_index=place, text=text, refusal=text))
    arguments = one.get("arguments", "")
    return found + [
        named("response.function_call_arguments.delta", output_index=place, delta=text)
        for text in (arguments[:2], arguments[2:])
        if text
    ]


def without_end(built: dict[str, Any]) -> dict[str, Any]:
    assert built.pop("over")
    return built
