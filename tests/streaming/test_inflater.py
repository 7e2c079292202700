import gzip
import zlib

import pytest

from tokenferry.streaming import inflater_of

TEXT = b"data: so\n\n" * 100


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(TEXT, mtime=0)),
        (b" X-GZIP", gzip.compress(TEXT, mtime=0)),
        (b"gzip", gzip.compress(TEXT[:300], mtime=0) + gzip.compress(TEXT[300:], mtime=0)),
        (b"deflate", zlib.compress(TEXT)),
    ],
    ids=["gzip", "another spelling", "two members", "deflate"],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_body_is_inflated_piece_by_piece(coding: bytes, body: bytes, step: int) -> None:
    inflater = inflater_of(coding)
    assert inflater is not None
    assert b"".join(inflater.feed(body[at : at + step]) for at in range(0, len(body), step)) == TEXT


def test_a_body_that_is_not_compressed_or_far_too_large_is_refused() -> None:
    for body in (b"data: so\n\n", gzip.compress(TEXT, mtime=0) + b"x" * 30, gzip.compress(b"\0" * (9 << 20))):
        inflater = inflater_of(b"gzip")
        assert inflater is not None
        with pytest.raises(ValueError, match=r"incorrect header|inflates to more"):
            inflater.feed(body)


@pytest.mark.parametrize("coding", [b"", b"identity", b"br", b"gzip, gzip"])
def test_other_codings_are_left_alone(coding: bytes) -> None:
    assert inflater_of(coding) is None
