"""docs/architecture.svg shows the imports as they are."""

import runpy
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort

ROOT = Path(__file__).parents[1]
script = runpy.run_path(str(ROOT / "scripts" / "architecture.py"))
Graph = Mapping[str, frozenset[str]]
Rooms = Mapping[str, list[str]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = "abcdefgh"[: draw(st.integers(1, 8))]
    return {
        name: draw(st.frozensets(st.sampled_from(names[at + 1 :]))) if names[at + 1 :] else frozenset()
        for at, name in enumerate(names)
    }


def reached(graph: Graph, name: str) -> set[str]:
    return set(graph[name]).union(*(reached(graph, other) for other in graph[name]))


@pytest.fixture(scope="module")
def inner() -> Rooms:
    return script["rooms"]()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def imports(inner: Rooms) -> Graph:
    return script["imports"](inner)  # type: ignore[no-any-return]


def test_the_committed_picture_is_what_the_script_draws(imports: Graph, inner: Rooms) -> None:
    committed = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    if committed != script["svg"](imports, inner):
        pytest.fail("docs/architecture.svg is out of date; draw it with: make architecture")


def test_each_role_names_rooms_that_exist_and_each_room_has_one(inner: Rooms) -> None:
    named = [name for _, names in script["ROLES"].values() for name in names.split()]
    assert sorted(named) == sorted(inner)


@settings(max_examples=effort(25), deadline=None)
@given(graphs())
def test_a_room_is_above_its_imports_and_an_arrow_or_a_path_leads_there(graph: Graph) -> None:
    reduced = script["reduced"](graph)
    height = script["heights"](reduced)
    for name, below in graph.items():
        assert reached(reduced, name) == reached(graph, name)
        assert all(height[name] > height[other] >= 0 for other in below)


def test_no_box_covers_another(imports: Graph, inner: Rooms) -> None:
    drawn = script["layout"](script["reduced"](imports), inner)
    for row in drawn.rows:
        for one, two in pairwise(row):
            half = (drawn.nodes[one].width + drawn.nodes[two].width) / 2
            assert drawn.middles[two] - drawn.middles[one] > half - 0.01
