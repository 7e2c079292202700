"""Bodies as clients write them are read, or refused in one short sentence."""

import msgspec
import pytest

from tokenferry.errors import Unfit
from tokenferry.wire import Codec
from tokenferry.wire._json import answer_decoder
from tokenferry.wire.chat._models import ChatAnswer
from wire.rig import (
    ask,
    chat_ask,
    from_gemini,
    from_responses,
    gemini_ask,
    responses_ask,
    sent,
    to_chat,
    to_gemini,
    to_messages,
    to_responses,
)

SAID = {"role": "user", "content": "HALF"}
REQUESTS = [
    (to_chat(), ask(SAID, novelty=1)),
    (to_responses(), ask(SAID, novelty=1)),
    (to_gemini(), ask(SAID, novelty=1)),
    (to_messages(), chat_ask(SAID, novelty=1)),
    (from_responses(), responses_ask(SAID, novelty=1)),
    (from_gemini(), gemini_ask({"parts": {"text": "HALF"}}, novelty=1)),
]


@pytest.mark.parametrize(("using", "body"), REQUESTS)
@pytest.mark.parametrize("is_first", [False, True])
def test_half_a_surrogate_pair_and_an_unknown_field_are_left_out_together(
    using: Codec,
    body: bytes,
    is_first: bool,  # noqa: FBT001
) -> None:
    if is_first:
        body = b'{"novelty": 1, ' + body.removeprefix(b"{").replace(b', "novelty": 1', b"")
    found = using.request(body.replace(b"HALF", b"\\ud83c"), "m")
    assert found == using.request(body.replace(b"HALF", b"?"), "m")
    assert found.left_out == ("novelty",)


@pytest.mark.parametrize("number", ['"%s"', "%s"])
def test_a_number_of_too_many_digits_is_refused_or_passes(number: str) -> None:
    """In a part that passes unread; Python's limit for such numbers is another."""
    schema = '{"type": "ARRAY", "maxItems": ' + number % ("9" * 5000) + "}"
    for body in (
        gemini_ask(tools=[{"functionDeclarations": [{"name": "f", "parameters": "SCHEMA"}]}]),
        gemini_ask(generationConfig={"responseMimeType": "application/json", "responseSchema": "SCHEMA"}),
    ):
        reason = ""
        try:
            assert b"9" * 5000 in from_gemini().request(body.replace(b'"SCHEMA"', schema.encode()), "m").body
        except Unfit as fault:
            reason = str(fault)
        assert len(reason) < 400


@pytest.mark.parametrize("value", [None, False, [], {}])
def test_an_unknown_field_that_asks_for_nothing_is_not_named(value: object) -> None:
    """The SDKs give `"annotations": null` in each answer, and take it back."""
    answer = {"role": "assistant", "content": "hi", "annotations": value}
    assert sent(chat_ask(SAID, answer, SAID), to_messages())[1].left_out == ()


DECODE = answer_decoder(ChatAnswer)


def test_an_answer_is_read_though_a_server_cuts_characters_or_writes_nan() -> None:
    """vLLM writes NaN where a probability is 0; a stream cut by UTF-16 units has half an emoji in an event."""
    half = b'{"id": "\\ud83d-", "choices": [], "x": [NaN, -Infinity]}'
    assert DECODE(half) == ChatAnswer(id="?-", choices=[])


@pytest.mark.parametrize(
    ("text", "word"),
    [(b"", "truncated"), (b'{"id": "\\ud83d"', "truncated"), (b'{"id": 5}', "`str"), (b'{"id": NaN', "character")],
)
def test_what_is_no_answer_is_described_by_the_strict_decoder(text: bytes, word: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=word):
        DECODE(text)
