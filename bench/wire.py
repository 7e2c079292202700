"""Cost of translating a request, and a stream's events: `python -m bench wire`."""

import json
import logging
import time
import timeit
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, Final

from tokenferry.wire import Codec, WireFormat, codec

SIZES: Final = (50_000, 200_000)
ROUNDS: Final = 15
TOOLS: Final = 16
OTHERS: Final[tuple[tuple[str, WireFormat], ...]] = (
    ("Chat", "openai"),
    ("Responses", "openai-responses"),
    ("Gemini", "gemini"),
)
_EVENTS: Final = 10_000


def body(size: int) -> bytes:
    """A conversation as Claude Code sends it: tools with schemas, a long prompt, many calls with their results."""
    fields = {f"p{number}": {"type": "string", "description": "what it is for"} for number in range(6)}
    schema = {"type": "object", "properties": fields, "required": ["p0"], "additionalProperties": False}
    tools = [{"name": f"tool_{n}", "description": "does a thing " * 40, "input_schema": schema} for n in range(TOOLS)]
    turns: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "some words \n" * 50}]}]
    document = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 64_000,
        "system": [{"type": "text", "text": "You are. " * 900, "cache_control": {"type": "ephemeral"}}],
        "tools": tools,
        "thinking": {"type": "adaptive"},
        "stream": True,
        "messages": turns,
    }
    while len(written := json.dumps(document, separators=(",", ":")).encode()) < size:
        call = {"type": "tool_use", "id": f"toolu_{len(turns)}", "name": "tool_1", "input": {"p0": "a value " * 20}}
        said = {"type": "text", "text": "I will look at it. " * 5}
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": "a line of output\n" * 100}
        turns += [{"role": "assistant", "content": [said, call]}, {"role": "user", "content": [result]}]
    return written


def pair(client: WireFormat, upstream: WireFormat) -> Codec:
    found = codec(client, upstream)
    assert found is not None
    return found


def least(call: Callable[[], object], number: int) -> float:
    """Seconds of CPU per call."""
    return min(timeit.repeat(call, timer=time.process_time, number=number, repeat=ROUNDS)) / number


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


CHUNK: Final = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt",
    "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}],
}
GEMINI_CHUNK: Final = {
    "candidates": [{"content": {"parts": [{"text": " word"}], "role": "model"}, "index": 0}],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11},
    "modelVersion": "gemini-3",
    "responseId": "r1",
}
MESSAGE_DELTA: Final = event("content_block_delta", index=0, delta={"type": "text_delta", "text": " word"})
MESSAGE_START: Final = event("message_start", message={"id": "msg_1"}) + event(
    "content_block_start", index=0, content_block={"type": "text", "text": ""}
)
PLACE: Final = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
STREAMS: Final[tuple[tuple[str, WireFormat, WireFormat, bytes, bytes], ...]] = (
    ("Chat to Messages", "anthropic", "openai", b"", b"data: %b\n\n" % json.dumps(CHUNK).encode()),
    ("Messages to Chat", "openai", "anthropic", MESSAGE_START, MESSAGE_DELTA),
    (
        "Responses to Messages",
        "anthropic",
        "openai-responses",
        event("response.created", response={"id": "resp_1"}),
        event("response.output_text.delta", sequence_number=4, delta=" word", **PLACE),
    ),
    ("Messages to Responses", "openai-responses", "anthropic", MESSAGE_START, MESSAGE_DELTA),
    ("Gemini to Messages", "anthropic", "gemini", b"", b"data: %b\r\n\r\n" % json.dumps(GEMINI_CHUNK).encode()),
)


def peers() -> Iterator[tuple[str, Callable[[bytes], object]]]:
    """Other translators of Messages to Chat, from JSON to JSON; those that are installed."""
    with suppress(ImportError):  # it can't be a requirement: it needs an older anthropic
        params = import_module("any_llm.types.messages").MessagesParams
        translate = import_module("any_llm.utils.messages_compat").messages_params_to_completion_params
        yield "any-llm", lambda text: json.dumps(translate(params(**json.loads(text))))
    with suppress(ImportError):
        from llm_rosetta import convert  # noqa: PLC0415  # see above

        yield "llm-rosetta", lambda text: json.dumps(convert(json.loads(text), "openai_chat", "anthropic"))
    with suppress(ImportError):
        from divyam_llm_interop.translate.chat.api_types import ModelApiType  # noqa: PLC0415  # see above
        from divyam_llm_interop.translate.chat.translate import ChatTranslator  # noqa: PLC0415  # see above
        from divyam_llm_interop.translate.chat.types import ChatRequest, Model  # noqa: PLC0415  # see above

        translator = ChatTranslator()
        here = Model(name="claude-sonnet-4-5", api_type=ModelApiType.ANTHROPIC_MESSAGES)
        there = Model(name="gpt-4.1", api_type=ModelApiType.COMPLETIONS)
        yield (
            "divyam-llm-interop",
            lambda text: json.dumps(
                translator.translate_request(ChatRequest({**json.loads(text), "max_tokens": 32_000}), here, there).body
            ),
        )


def main() -> None:
    warnings.simplefilter("ignore")  # about fields that the others drop
    logging.disable()
    for name, call in peers():
        for size in SIZES:
            text = body(size)
            print(f"{len(text):>8} bytes  Messages to Chat by {name:<20}{least(partial(call, text), 5) * 1e3:>8.3f} ms")
    for title, other in OTHERS:
        there, back = pair("anthropic", other), pair(other, "anthropic")
        for size in SIZES:
            text = body(size)
            sent = there.request(text, "gpt").body
            for way, using, asked in (
                (f"Messages to {title}", there, text),
                (f"{title} to Messages", back, sent),
            ):
                cost = least(partial(using.request, asked, "m"), 50)
                print(f"{len(asked):>8} bytes{way:>26}{cost * 1e3:>8.3f} ms")
    for way, client, upstream, start, piece in STREAMS:
        using = pair(client, upstream)
        said = {"messages" if client != "openai-responses" else "input": [{"role": "user", "content": "hi"}]}
        asked = json.dumps({"model": "m", "max_tokens": 9, "stream": True, **said}).encode()
        stream = using.stream(using.request(asked, "m"), "req")
        stream.feed(start + piece)
        print(f"an event of {way:<24}{least(partial(stream.feed, piece), _EVENTS) * 1e6:>9.1f} us")


if __name__ == "__main__":
    main()
