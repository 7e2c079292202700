"""What the worst body of its size costs: calls in proportion to nothing, memory in proportion to its bytes."""

import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from bench._bodies import TAG_NAME, WORST

from tokenferry.routing import BodyFacts, Malformed, TooComplex, rewrite, scan

SIZE = 1 << 20
CALLS = 25_000
"""Of Python and C functions together: a thousand items at most, each of a few calls."""


def read_all(body: bytes) -> None:
    """Everything that a router may ask for."""
    facts = scan([body])
    if isinstance(facts, BodyFacts):
        for ask in (
            lambda: facts.stream,
            lambda: facts.thinking,
            lambda: facts.web_search,
            lambda: facts.tag,
            lambda: rewrite(facts, "y", without_tag=True),
        ):
            with suppress(TooComplex):
                ask()


def calls_of(action: Callable[[], object]) -> int:
    count = 0

    def note(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", WORST)
def test_the_number_of_steps_does_not_grow_with_the_body(name: str) -> None:
    body = WORST[name](SIZE)
    assert calls_of(lambda: read_all(body)) < CALLS


@pytest.mark.parametrize("name", WORST)
def test_memory_is_a_few_times_the_body(name: str) -> None:
    body = WORST[name](SIZE)
    tracemalloc.start()
    try:
        read_all(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The rest is bounded by what is looked at of an array, whatever the body's size.
    assert peak < 6 * len(body) + (40 << 20)


@pytest.mark.parametrize("unit", [b"{},", b"1,", b'{"type":"text","text":"x"},'])
def test_an_array_beyond_the_bound_is_refused_before_it_is_read(unit: bytes) -> None:
    facts = scan([b'{"model":"x","system":[%b{"text":"%b"}]}' % (unit * 600_000, TAG_NAME)])
    assert isinstance(facts, BodyFacts)
    tracemalloc.start()
    try:
        with pytest.raises(TooComplex, match="send less"):
            _ = facts.tag
        assert tracemalloc.get_traced_memory()[1] < 2 * len(facts.body)
    finally:
        tracemalloc.stop()


def test_more_tags_than_are_removed_are_refused() -> None:
    tag = b"<%b>x</%b>" % (TAG_NAME, TAG_NAME)
    for names, is_refused in ((b"", False), (TAG_NAME, True)):
        facts = scan([b'{"model":"x","system":"%b%b"}' % (tag * 100, names)])
        assert isinstance(facts, BodyFacts)
        if is_refused:
            with pytest.raises(TooComplex, match="times"):
                _ = facts.tag
        else:
            assert b"CCM" not in b"".join(rewrite(facts, None, without_tag=True))


def test_a_name_without_end_is_refused() -> None:
    found = scan([b'{"%b":1,"model":"x"}' % (b"a" * 2000)])
    assert isinstance(found, Malformed)
    assert found.cause == "too_complex"
