import pytest

from tokenferry.sealing import SealKey


def test_a_key_is_256_bits_that_are_never_the_same() -> None:
    keys = {SealKey.new() for _ in range(50)}
    assert len(keys) == len({key.id for key in keys}) == 50
    assert all(len(key.bits()) == 32 for key in keys)


def test_a_key_is_read_back_as_it_is_written() -> None:
    key = SealKey.new()
    assert SealKey.parse(key.secret.reveal()) == key
    assert bytes.fromhex(key.secret.reveal().removeprefix("tfs_")) == key.bits()


@pytest.mark.parametrize("text", ["", "correct horse battery staple", "tfs_", "tfs_" + "0" * 63, "tfs_" + "g" * 64])
def test_a_pass_phrase_is_no_key(text: str) -> None:
    assert SealKey.parse(text) is None


def test_a_key_shows_its_fingerprint_alone() -> None:
    key = SealKey.new()
    assert key.secret.reveal()[4:24] not in f"{key!r} {key} {key.id}"
