from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.sealing import KeyPlace, Marker

places = st.none() | st.sampled_from([Path("/media/stick/key"), Path("/home/ä/key")])
markers = st.builds(
    Marker,
    st.lists(st.tuples(st.from_regex(r"\A[0-9a-f]{16}\Z"), st.builds(KeyPlace, places)), min_size=1, max_size=3).map(
        tuple
    ),
    st.booleans(),
)


@given(markers)
def test_a_marker_is_read_back_as_it_is_written(marker: Marker) -> None:
    assert Marker.from_bytes(marker.to_bytes()) == marker


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b'{"version": 3, "keys": [{"id": "a", "file": null}]}',
        b'{"version": 1, "keys": []}',
        b'{"version": 1, "keys": [{"id": "a"}]}',
        b'{"version": 1, "keys": [{"id": "a", "file": "relative"}]}',
        b'{"version": 1, "keys": [{"id": "a", "file": 5}]}',
        b'{"version": 1, "keys": ["a"]}',
    ],
)
def test_anything_else_is_no_marker(raw: bytes) -> None:
    assert Marker.from_bytes(raw) is None
