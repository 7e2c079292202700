import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.accounts import open_export, seal_export
from tokenferry.errors import CorruptFile, NeedsUnlock, UsageError
from tokenferry.sealing import KeyPlace, Marker, SealKey
from tokenferry.secret import HiddenBytes
from tokenferry.settings import Home
from tokenferry.stores import Seal

KEY = SealKey.new()


@pytest.fixture
def seal(home: Home) -> Seal:
    seal = Seal(home, keys=[KEY])
    seal.mark(Marker(((KEY.id, KeyPlace(home.path.parent / "stick" / "key")),)))
    return seal


def test_an_export_comes_back_with_its_format(seal: Seal) -> None:
    content = HiddenBytes(b'{"access_token": "not-a-word-of-base64"}')
    raw = seal_export(content, "bundle", "work", seal)
    assert raw.find(b"not-a-word-of-base64") == -1
    assert open_export(raw, seal, "file") == (content, "bundle")


def test_without_the_key_it_stays_closed(seal: Seal, home: Home) -> None:
    raw = seal_export(HiddenBytes(b"abc"), "env", "work", seal)
    with pytest.raises(NeedsUnlock):
        open_export(raw, Seal(home), "file")


def test_whatever_is_changed_of_it_is_refused(seal: Seal) -> None:
    whole = json.loads(seal_export(HiddenBytes(b"abc"), "env", "work", seal))
    for key, value in (
        ("account", "other"),
        ("format", "key-file"),
        ("format", "nothing"),
        ("tokenferry_sealed_export", 2),
        ("sealed", whole["sealed"][:-4]),
        ("more", 1),
    ):
        with pytest.raises(CorruptFile, match="sealed export that was modified"):
            open_export(HiddenBytes(json.dumps(whole | {key: value}).encode()), seal, "file")


@given(st.binary(max_size=50) | st.sampled_from([b"{}", b"[]", b"null", b'{"access_token": "x"}']))
def test_anything_else_is_none(raw: bytes) -> None:
    assert open_export(HiddenBytes(raw), None, "file") is None  # type: ignore[arg-type]  # it isn't asked


def test_what_others_must_read_and_what_has_no_key_is_refused(seal: Seal, home: Home) -> None:
    with pytest.raises(UsageError, match="another program's file"):
        seal_export(HiddenBytes(b"abc"), "pool", "work", seal)
    seal.mark(None)
    with pytest.raises(UsageError, match="tokenferry encryption enable"):
        seal_export(HiddenBytes(b"abc"), "env", "work", seal)
