import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from tokenferry.wire import EventBoundary, end_of, next_event, parse, split

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


def test_an_event_that_trickles_in_is_looked_at_once() -> None:
    events = EventBoundary()
    event = b"data: " + b"x" * 200_000 + b"\r\n\r\n"
    assert b"".join(events.feed(event[at : at + 7]) for at in range(0, len(event), 7)) == event
    assert events.rest() == b""


def test_events_are_split_at_blank_lines_of_every_kind() -> None:
    ends = [end_of(STREAM, number) for number in range(len(split(STREAM)))]
    assert [STREAM[start:end].rstrip(b"\r\n") for start, end in itertools.pairwise((0, *ends))] == split(STREAM)
    assert ends[-1] == len(STREAM)
    assert list(one_by_one(STREAM)) == split(STREAM)
    assert [parse(event) for event in split(STREAM)] == [
        ("a", b"1"),
        ("", b""),
        ("", b"2\n3"),
        ("b", b"4"),
        ("", b"5"),
    ]


@given(st.lists(st.sampled_from((b"data: 1", b"x", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n"))).map(b"".join))
def test_events_one_by_one_are_those_of_all_at_once(events: bytes) -> None:
    assert [event for event in one_by_one(events) if event] == [
        event for one in split(events) if (event := one.lstrip(b"\r\n"))
    ]


def test_blank_lines_are_passed_over_at_once() -> None:
    for line in (b"\n", b"\r\n", b"\r"):
        assert list(one_by_one(line * 10_000 + b"data: 1\n\n" + line * 10_000)) == [b"data: 1", b""]


def one_by_one(events: bytes) -> Iterator[bytes]:
    start, has_cr = 0, b"\r" in events
    while start < len(events):
        event, start = next_event(events, start, has_cr=has_cr)
        yield event


def test_what_has_no_blank_line_behind_it_is_the_last_event() -> None:
    events = b"data: 1\n\ndata: 2\n"
    assert split(events) == [b"data: 1", b"data: 2\n"]
    assert [end_of(events, number) for number in range(2)] == [9, 17]


@given(st.lists(st.sampled_from([b"event: ", b"data: ", b"data:", b"a", b" ", b"\n", b"\r", b"\xc3", b": x", b"\x0b"])))
def test_an_event_in_the_usual_form_is_read_as_line_by_line(parts: list[bytes]) -> None:
    event = b"".join(parts)
    assert parse(event) == parse(event + b"\n: comment")  # which is read line by line
