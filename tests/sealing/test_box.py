import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaks import leaks
from tokenferry.sealing import BrokenSeal, SealKey, close_box, open_box

KEY, OTHER = SealKey.new(), SealKey.new()
ABOUT = {"name": "work", "generation": 3, "expires_at": None}
abouts = st.dictionaries(st.text(max_size=9), st.none() | st.integers() | st.text(max_size=20) | st.booleans())


@given(st.binary(max_size=2000), abouts)
def test_what_is_closed_opens_with_the_same_key_and_the_same_words(content: bytes, about: dict[str, object]) -> None:
    assert open_box(KEY, close_box(KEY, content, "document", about), "document", about) == content


@given(st.binary(min_size=1, max_size=200))
def test_nothing_of_the_content_is_in_the_box_and_no_two_boxes_are_alike(content: bytes) -> None:
    one, other = (close_box(KEY, content, "document", ABOUT) for _ in range(2))
    assert one != other
    assert len(content) < 6 or content not in base64.b64decode(one)


@given(st.binary(max_size=60), st.data())
def test_no_bit_of_a_box_can_be_flipped(content: bytes, data: st.DataObject) -> None:
    raw = bytearray(base64.b64decode(close_box(KEY, content, "document", ABOUT)))
    place = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[place // 8] ^= 1 << place % 8
    with pytest.raises(BrokenSeal):
        open_box(KEY, base64.b64encode(bytes(raw)).decode(), "document", ABOUT)


@given(st.text(st.characters(max_codepoint=127), max_size=80) | st.binary(max_size=60).map(base64.b64encode))
def test_what_was_never_closed_opens_nowhere(box: str | bytes) -> None:
    with pytest.raises(BrokenSeal):
        open_box(KEY, box if isinstance(box, str) else box.decode(), "document", ABOUT)


def test_a_box_has_one_spelling() -> None:
    """Base64 leaves bits unused at its end, and decoders overlook them."""
    box = next(box for box in (close_box(KEY, bytes(n), "document", ABOUT) for n in range(3)) if box.endswith("="))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    at = len(box.rstrip("=")) - 1
    twin = box[:at] + alphabet[alphabet.index(box[at]) ^ 1] + box[at + 1 :]
    assert base64.b64decode(twin) == base64.b64decode(box)
    for changed in (twin, box + "\n", box.rstrip("=")):
        with pytest.raises(BrokenSeal):
            open_box(KEY, changed, "document", ABOUT)


def test_it_opens_with_no_other_key_for_no_other_purpose_and_about_nothing_else() -> None:
    box = close_box(KEY, b"content", "document", ABOUT)
    for key, purpose, about in (
        (OTHER, "document", ABOUT),
        (KEY, "answer", ABOUT),
        (KEY, "document", ABOUT | {"name": "other"}),
        (KEY, "document", ABOUT | {"generation": 2}),
        (KEY, "document", {**ABOUT, "more": 1}),
        (KEY, "document", {}),
    ):
        with pytest.raises(BrokenSeal):
            open_box(key, box, purpose, about)
    assert open_box(KEY, box, "document", dict(reversed(ABOUT.items()))) == b"content"


def test_a_refusal_shows_neither_the_key_nor_the_content() -> None:
    box = close_box(KEY, b"sk-ant-oat01-content-content", "document", ABOUT)
    with pytest.raises(BrokenSeal) as caught:
        open_box(KEY, box, "document", {})
    assert not leaks(caught.value, KEY.secret.reveal(), "sk-ant-oat01-content-content")
    assert repr(KEY.bits()) == "<32 bytes>"
