import itertools

from hypothesis import given
from hypothesis import strategies as st

from tokenferry.gateway._events import EventBoundary

STREAM = b"event: a\ndata: 1\n\n: note\n\ndata: 2\r\ndata: 3\r\n\r\nevent: b\rdata: 4\r\rdata: 5\n\n"


@given(st.lists(st.integers(0, len(STREAM)), max_size=12), st.integers(0, len(STREAM)))
def test_bytes_pass_unchanged_and_only_in_whole_events(cuts: list[int], end: int) -> None:
    events = EventBoundary()
    passed = b""
    places = sorted({min(cut, end) for cut in cuts} | {0, end})
    for start, stop in itertools.pairwise(places):
        passed += events.feed(STREAM[start:stop])
        assert not passed or passed.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))
    assert passed + events.rest() == STREAM[:end]
    assert not events.is_inside


def test_an_event_passes_as_soon_as_it_is_whole() -> None:
    events = EventBoundary()
    assert events.feed(b"data: 1\n\ndata") == b"data: 1\n\n"
    assert events.feed(b": 2\n") == b""
    assert events.feed(b"\n") == b"data: 2\n\n"


def test_an_event_too_large_to_hold_passes_as_it_comes() -> None:
    events = EventBoundary()
    assert events.feed(b"x" * 300_000) == b"x" * 300_000
    assert events.is_inside
    assert events.feed(b"y") == b"y"
    assert events.feed(b"z\n\nnext") == b"z\n\n"
    assert not events.is_inside
