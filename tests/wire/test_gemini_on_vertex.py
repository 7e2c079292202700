"""Gemini's own clients at Vertex AI: the body passes, and so do the events."""

import json

import pytest

from tokenferry.errors import Unfit, UnreadableAnswer
from tokenferry.wire import Codec, Quirks, codec
from tokenferry.wire.gemini._thoughts import sealed_thoughts
from tokenferry.wire.messages import _models as messages
from wire.rig import DOMAIN, gemini_event

TRANSCRIPT = [
    gemini_event({"text": "so — ☃"}),
    gemini_event(finish="STOP"),
    b'data: {"usageMetadata": {"promptTokenCount": 9}}\r\n\r\n',
]
WHOLE = b"".join(TRANSCRIPT)
ASKED = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "cachedContent": "x"}


def on_vertex() -> Codec:
    found = codec("gemini", "gemini", Quirks(vertex=True), domain=DOMAIN)
    assert found is not None
    return found


def asked(*, stream: bool = False) -> bytes:
    return json.dumps({"model": "m", "stream": stream, **ASKED}).encode()


def passed(*pieces: bytes) -> tuple[bytes, str | None]:
    stream = on_vertex().stream(on_vertex().request(asked(stream=True), "m"), "r")
    return b"".join(map(stream.feed, pieces)) + stream.end(), stream.error


def test_the_body_passes_without_what_the_clients_path_said() -> None:
    sent = on_vertex().request(asked(stream=True), "gemini-3-pro")
    assert json.loads(sent.body) == ASKED
    assert sent.path == "/publishers/google/models/gemini-3-pro:streamGenerateContent?alt=sse"
    with pytest.raises(Unfit):
        on_vertex().request(b"[]", "m")


def test_signatures_of_other_models_stay_here() -> None:
    signature = sealed_thoughts(DOMAIN, [messages.ThinkingContent(thinking="t", signature="s")])
    part = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": signature}
    body = json.dumps({"contents": [{"role": "model", "parts": [part]}]}).encode()
    found = json.loads(on_vertex().request(body, "m").body)["contents"][0]["parts"][0]
    assert found["thoughtSignature"] == "skip_thought_signature_validator"


def test_events_pass_however_they_are_cut_and_a_stream_without_its_end_is_an_error() -> None:
    whole, error = passed(WHOLE)
    assert [json.loads(one.removeprefix(b"data: ")) for one in whole.split(b"\n\n")[:-1]] == [
        json.loads(one.removeprefix(b"data: ")) for one in TRANSCRIPT
    ]
    assert error is None
    assert passed(*(WHOLE[at : at + 1] for at in range(len(WHOLE)))) == (whole, None)
    finish = len(TRANSCRIPT[0] + TRANSCRIPT[1]) - 4
    for end in range(0, len(WHOLE), 7):
        assert (passed(WHOLE[:end])[1] is None) == (end > finish), end


def test_an_answer_passes_and_one_without_content_is_judged() -> None:
    sent = on_vertex().request(asked(), "m")
    good = gemini_event({"text": "so"}, finish="STOP", usageMetadata={"promptTokenCount": 9}).removeprefix(b"data: ")
    body, counted = on_vertex().answer(good, sent)
    assert (body, counted.input, counted.output) == (good, 9, 0)
    with pytest.raises(UnreadableAnswer, match="MALFORMED"):
        on_vertex().answer(gemini_event(finish="MALFORMED_FUNCTION_CALL").removeprefix(b"data: "), sent)
    assert on_vertex().error(429, b"[]", "r") == (429, b"[]")
