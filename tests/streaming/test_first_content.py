import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.streaming._first_content import GATE_LIMIT, FirstContentBuffer
from wire.rig import chunk, named

START = b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n'
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
BLOCK = b'event: content_block_start\ndata: {"type":"content_block_start"}\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'

CREATED = named("response.created", response={"id": "resp_1", "error": None})


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (START, "held"),
        (START + PING * 3, "held"),
        (START + BLOCK, "open"),
        (PING + ERROR, "error"),
        (START + ERROR + BLOCK, "error"),
        (START + BLOCK + ERROR, "open"),
        (b": a comment\n\n" + PING, "held"),
        (b"event: never heard of\ndata: {}\n\n", "open"),
        (b'data: {"type":"ping"}\n\n', "held"),
        (b'data: {"type":"error","error":{}}\n\n', "error"),
        (b"data: no JSON\n\n", "open"),
        (chunk({"role": "assistant", "content": ""}), "held"),
        (chunk({"role": "assistant", "content": None, "tool_calls": []}) + chunk(choices=[]), "held"),
        (chunk({"role": "assistant"}) + chunk({"content": "so"}), "open"),
        (chunk({"reasoning_content": "hm"}), "open"),
        (chunk({"tool_calls": [{"index": 0}]}), "open"),
        (chunk(finish="stop"), "open"),
        (chunk({"role": "assistant"}) + b'data: {"error": {"message": "busy"}}\n\n', "error"),
        (b'data: {"error": "busy"}\n\n', "error"),
        (b'data: {"choices": null, "base_resp": {"status_code": 1002}}\n\n', "error"),
        (b": waiting\n\n" + chunk({"role": "assistant"}, error=None), "held"),
        (CREATED + named("response.in_progress", response={}), "held"),
        (CREATED + named("response.output_item.added", item={}), "open"),
        (CREATED + named("response.failed", response={"error": {}}), "error"),
    ],
)
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_it_opens_at_the_first_content_wherever_reads_cut(stream: bytes, said: str, ends: bytes) -> None:
    stream = stream.replace(b"\n", ends)
    for step in (1, 7, len(stream)):
        gate = FirstContentBuffer()
        reported = "held"
        for start in range(0, len(stream), step):
            reported = gate.feed(stream[start : start + step])
            if reported != "held":
                break
        assert reported == said
        assert stream.startswith(b"".join(gate.held))


def test_an_event_counts_once_it_is_whole() -> None:
    gate = FirstContentBuffer()
    assert gate.feed(START + ERROR[:-1]) == "held"
    assert gate.feed(ERROR[-1:]) == "error"


def test_what_is_long_without_content_is_not_held() -> None:
    gate = FirstContentBuffer()
    assert gate.feed(b"event: ping\ndata: " + b"x" * (GATE_LIMIT - 100)) == "held"
    assert gate.feed(b"x" * 100) == "open"


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_it_holds_every_byte_it_was_fed(chunks: list[bytes]) -> None:
    gate = FirstContentBuffer()
    for one in chunks:
        gate.feed(one)
    assert b"".join(gate.held) == b"".join(chunks)
