"""What translating a request and a stream's events costs: `python -m bench wire`."""

import json
import time
import timeit
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tokenferry.wire import Codec, codec

SIZES: Final = (50_000, 200_000)
ROUNDS: Final = 15
TOOLS: Final = 16
_EVENTS: Final = 10_000


def body(size: int) -> bytes:
    """A conversation as Claude Code has it: tools with schemas, a long prompt, and many calls with their results."""
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


def there_and_back() -> tuple[Codec, Codec]:
    there, back = codec("anthropic", "openai"), codec("openai", "anthropic")
    assert there is not None
    assert back is not None
    return there, back


def least(call: Callable[[], object], number: int) -> float:
    """Seconds of CPU of one call."""
    return min(timeit.repeat(call, timer=time.process_time, number=number, repeat=ROUNDS)) / number


def main() -> None:
    there, back = there_and_back()
    for size in SIZES:
        text = body(size)
        sent = there.request(text, "gpt").body
        for title, using, asked in (("Messages to Chat", there, text), ("Chat to Messages", back, sent)):
            cost = least(partial(using.request, asked, "m"), 50)
            print(f"{len(asked):>8} bytes{title:>26}{cost * 1e3:>8.3f} ms")
    delta = {"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt", "choices": [delta]}
    written = b"data: %b\n\n" % json.dumps(chunk).encode()
    stream = there.stream(there.request(body(1), "gpt"), "req")
    stream.feed(written)
    print(f"an event of Chat to Messages{least(lambda: stream.feed(written), _EVENTS) * 1e6:>20.1f} us")
    event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " word"}}
    written_event = b"event: content_block_delta\ndata: %b\n\n" % json.dumps(event).encode()
    request = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true}'
    stream_back = back.stream(back.request(request, "m"), "req")
    stream_back.feed(b'data: {"type": "message_start", "message": {"id": "msg_1"}}\n\n')
    print(f"an event of Messages to Chat{least(lambda: stream_back.feed(written_event), _EVENTS) * 1e6:>20.1f} us")


if __name__ == "__main__":
    main()
