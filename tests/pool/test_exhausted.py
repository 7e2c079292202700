import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.pool._exhausted import span_in_words

SECONDS = {"d": 86_400, "h": 3600, "min": 60, "s": 1}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 s"),
        (119, "119 s"),
        (120, "2 min"),
        (125, "2 min 5 s"),
        (7199, "119 min 59 s"),
        (7200, "2 h"),
        (7210, "2 h 1 min"),
        (10_799, "3 h"),
        (172_800, "2 d"),
        (172_801, "2 d 1 h"),
    ],
)
def test_a_wait_is_reported_exactly(seconds: int, words: str) -> None:
    assert span_in_words(seconds) == words


@given(st.integers(1, 40 * 86_400))
def test_the_announced_wait_is_never_too_short_and_at_most_a_fiftieth_too_long(seconds: int) -> None:
    words = span_in_words(seconds).split()
    told = sum(int(number) * SECONDS[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    assert seconds <= told <= seconds * 1.02 + (seconds >= 172_800) * 3600
