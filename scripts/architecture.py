"""`make architecture`: draw the rooms of src/tokenferry and their imports as docs/architecture.svg.

Each room is above the rooms that it imports. An import is not drawn if a longer path leads to the same room. The
picture depends only on the imports and on `ROLES`.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCE: Final = ROOT / "src" / "tokenferry"
PICTURE: Final = ROOT / "docs" / "architecture.svg"

ROLES: Final = {
    "entry": (
        "start and manage",
        (
            "cli serve in_process testing reloading actions admin dashboard config_changes background_refresh service "
            "views readiness sandbox"
        ),
    ),
    "request": ("carry a request", "gateway routing pool streaming upstream limits wire"),
    "token": (
        "obtain a token",
        (
            "integrations compat broker login accounts interchange clients claude_code refresh fleet "
            "oauth providers stores sealing"
        ),
    ),
    "ground": (
        "settings, state, values",
        (
            "background manifest config policy_statement state ledger postgres databases alerts budgets prices rates "
            "audit settings config_key credentials secret logfmt tools anthropic_beta moments units errors deferred"
        ),
    ),
}
"""Groups of rooms, each with a colour. A room missing here belongs to the last group."""

Graph: TypeAlias = Mapping[str, frozenset[str]]
Point: TypeAlias = tuple[int, int]

_COLOURS: Final = {  # fill, border and text for light mode, then for dark mode
    "entry": ("#f3ecff", "#8250df", "#4c1d95", "#2b2140", "#a98bf0", "#e6dcff"),
    "request": ("#e6f1ff", "#1f6feb", "#0b3d91", "#14283f", "#5aa2f5", "#d6e8ff"),
    "token": ("#e3f7ec", "#1a8f5a", "#0c4f31", "#12301f", "#46c285", "#d2f5e1"),
    "ground": ("#f3f4f6", "#8b949e", "#30363d", "#22272e", "#768390", "#d5dce4"),
}
_MARGIN: Final = 28
_ROW: Final = 86
_BOX: Final = 44
_GAP: Final = 26
_LANE: Final = 14
_TOP: Final = 92
_ORDERINGS: Final = 12
_PLACINGS: Final = 400
_STEEPEST: Final = 0.4
_STIFF: Final = 2
_SEPARATOR: Final = " · "


class Node(NamedTuple):
    """A room, or a bend of a long arrow. `width` is the horizontal space that it takes."""

    name: str
    width: float
    is_room: bool


class Layout(NamedTuple):
    """Rows from the top, the x of each node's middle, and the nodes on each arrow's path."""

    rows: list[list[str]]
    nodes: dict[str, Node]
    middles: dict[str, float]
    arrows: list[list[str]]


def rooms() -> dict[str, list[str]]:
    """Each room with its inner packages."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.iterdir()):
        if (path / "__init__.py").is_file():
            found[path.name] = sorted(inner.parent.name for inner in path.glob("*/__init__.py"))
        elif path.suffix == ".py" and not path.name.startswith("__"):
            found[path.stem] = []
    return found


def imports(names: Iterable[str]) -> Graph:
    """The rooms that each room imports, anywhere in its files."""
    graph: dict[str, set[str]] = {name: set() for name in names}
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room in graph:
            graph[room] |= {name for name in _imported(ast.parse(path.read_bytes())) if name in graph and name != room}
    return {name: frozenset(below) for name, below in graph.items()}


def _imported(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            modules = [alias.name for alias in names]
        case ast.ImportFrom(module="tokenferry", names=names):
            modules = [f"tokenferry.{alias.name}" for alias in names]
        case ast.ImportFrom(module=str(module)):
            modules = [module]
        case _:
            modules = []
            for inner in ast.iter_child_nodes(node):
                if isinstance(inner, ast.stmt | ast.excepthandler | ast.match_case):
                    yield from _imported(inner)
    yield from (module.split(".")[1] for module in modules if module.startswith("tokenferry."))


def reduced(graph: Graph) -> Graph:
    """The graph without arrows that a longer path makes superfluous."""
    below: dict[str, frozenset[str]] = {}

    def reach(name: str) -> frozenset[str]:
        if name not in below:
            below[name] = frozenset().union(graph[name], *(reach(other) for other in graph[name]))
        return below[name]

    return {
        name: frozenset(one for one in direct if not any(one in reach(other) for other in direct))
        for name, direct in graph.items()
    }


def heights(graph: Graph) -> dict[str, int]:
    """The row of each room, counted from the bottom, with arrows as short as the neighbours allow."""
    height: dict[str, int] = {}

    def rise(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((rise(other) for other in graph[name]), default=-1)
        return height[name]

    for name in sorted(graph):
        rise(name)
    above = {name: [other for other in sorted(graph) if name in graph[other]] for name in graph}
    top = max(height.values())
    for name in sorted(graph, key=lambda one: (len(above[one]) > 0, -height[one], one)):
        if len(above[name]) >= len(graph[name]) or not above[name]:
            height[name] = min((height[other] for other in above[name]), default=top + 1) - 1
    return height


def layout(graph: Graph, inner: Mapping[str, Sequence[str]]) -> Layout:
    """Place rooms and bends so that arrows are short and few of them cross."""
    height = heights(graph)
    top = max(height.values())
    nodes = {name: Node(name, _width(name, inner[name]), is_room=True) for name in sorted(graph)}
    rows: list[list[str]] = [[] for _ in range(top + 1)]
    for name in sorted(graph):
        rows[top - height[name]].append(name)
    arrows = []
    for name in sorted(graph):
        for other in sorted(graph[name]):
            bends = [f"{name} {other} {level}" for level in range(height[name] - 1, height[other], -1)]
            for level, bend in zip(range(height[name] - 1, height[other], -1), bends, strict=True):
                nodes[bend] = Node(bend, _LANE, is_room=False)
                rows[top - level].append(bend)
            arrows.append([name, *bends, other])
    up: dict[str, list[str]] = {name: [] for name in nodes}
    down: dict[str, list[str]] = {name: [] for name in nodes}
    for arrow in arrows:
        for one, next_one in pairwise(arrow):
            down[one].append(next_one)
            up[next_one].append(one)
    rows = _ordered(rows, up, down)
    return Layout(rows, nodes, _middles(rows, nodes, up, down), arrows)


def _ordered(rows: list[list[str]], up: Mapping[str, list[str]], down: Mapping[str, list[str]]) -> list[list[str]]:
    """Sort each row by its neighbours' mean position, upwards and downwards in turn, and keep the fewest crossings."""
    best, fewest = rows, _crossings(rows, down)
    rows = [list(row) for row in rows]
    for sweep in range(_ORDERINGS):
        neighbours = up if sweep % 2 == 0 else down
        indices = range(1, len(rows)) if sweep % 2 == 0 else range(len(rows) - 2, -1, -1)
        for index in indices:
            other = rows[index - 1 if sweep % 2 == 0 else index + 1]
            place = {name: at for at, name in enumerate(other)}
            at_present = {name: at for at, name in enumerate(rows[index])}
            key = {}
            for name in rows[index]:
                places = [place[one] for one in neighbours[name] if one in place]
                key[name] = sum(places) / len(places) if places else at_present[name]
            rows[index].sort(key=lambda name: (key[name], at_present[name]))
        _swap_neighbours(rows, up, down)
        if (crossings := _crossings(rows, down)) < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _swap_neighbours(rows: list[list[str]], up: Mapping[str, list[str]], down: Mapping[str, list[str]]) -> None:
    for index, row in enumerate(rows):
        above = {name: at for at, name in enumerate(rows[index - 1])} if index else {}
        below = {name: at for at, name in enumerate(rows[index + 1])} if index + 1 < len(rows) else {}

        def cost(one: str, two: str, above: dict[str, int] = above, below: dict[str, int] = below) -> int:
            return sum(
                place[a] > place[b]
                for side, place in ((up, above), (down, below))
                for a in side[one]
                for b in side[two]
            )

        for at in range(len(row) - 1):
            if cost(row[at], row[at + 1]) > cost(row[at + 1], row[at]):
                row[at], row[at + 1] = row[at + 1], row[at]


def _crossings(rows: list[list[str]], down: Mapping[str, list[str]]) -> int:
    total = 0
    for row, below in pairwise(rows):
        place = {name: at for at, name in enumerate(below)}
        ends = [(at, place[other]) for at, name in enumerate(row) for other in down[name]]
        total += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[:i])
    return total


def _middles(
    rows: list[list[str]], nodes: Mapping[str, Node], up: Mapping[str, list[str]], down: Mapping[str, list[str]]
) -> dict[str, float]:
    """Move each node towards its neighbours, row by row, as far as the rest of its row allows."""
    middles = {name: 0.0 for row in rows for name in row}
    for row in rows:
        _settle(row, [0.0] * len(row), nodes, middles)
    for sweep in range(_PLACINGS):
        for row in rows if sweep % 2 else rows[::-1]:
            wanted = []
            for name in row:
                near = [(one, _pull(nodes[name], nodes[one])) for one in up[name] + down[name]]
                pull = sum(weight for _, weight in near)
                wanted.append(sum(middles[one] * weight for one, weight in near) / pull if near else middles[name])
            _settle(row, wanted, nodes, middles)
    left = min(middles[name] - node.width / 2 for name, node in nodes.items())
    return {name: middle - left + _MARGIN for name, middle in middles.items()}


def _pull(one: Node, other: Node) -> int:
    """How strongly two neighbours align: bends of a long arrow most of all."""
    return (1, 2, 8)[2 - one.is_room - other.is_room]


def _settle(row: list[str], wanted: list[float], nodes: Mapping[str, Node], middles: dict[str, float]) -> None:
    """Give the nodes of a row the places nearest to the wanted ones that keep their order and distances."""
    offsets = [0.0]
    for one, two in pairwise(row):
        gap = _GAP if nodes[one].is_room or nodes[two].is_room else 0
        offsets.append(offsets[-1] + (nodes[one].width + nodes[two].width) / 2 + gap)
    blocks: list[tuple[float, int, int]] = []  # sum of wanted places times weight, weight, number of nodes
    for name, wish, offset in zip(row, wanted, offsets, strict=True):
        weight = 1 if nodes[name].is_room else _STIFF
        total, count = (wish - offset) * weight, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / weight:
            other_total, other_weight, size = blocks.pop()
            total, weight, count = total + other_total, weight + other_weight, count + size
        blocks.append((total, weight, count))
    places = [total / weight for total, weight, count in blocks for _ in range(count)]
    for name, place, offset in zip(row, places, offsets, strict=True):
        middles[name] = place + offset


def _width(name: str, inner: Sequence[str]) -> float:
    return max(74, len(name) * 8.6 + 26, len(_SEPARATOR.join(inner)) * 5.6 + 28)


def _role(name: str) -> str:
    return next((role for role, (_, named) in ROLES.items() if name in named.split()), "ground")


def svg(graph: Graph, inner: Mapping[str, Sequence[str]]) -> str:
    """Draw the picture."""
    drawn = layout(reduced(graph), inner)
    y = {name: _TOP + index * _ROW for index, row in enumerate(drawn.rows) for name in row}
    width = round(max(drawn.middles[name] + node.width / 2 for name, node in drawn.nodes.items())) + _MARGIN
    height = _TOP + (len(drawn.rows) - 1) * _ROW + _BOX + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" width="{width}">',
        "<title>The rooms of tokenferry</title>",
        "<desc>Boxes are rooms, arrows are imports: each room imports only rooms below it.</desc>",
        f"<style>{_style()}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path class="tip" d="M0 0.8 7.4 4 0 7.2 1.6 4z"/></marker></defs>',
        f'<rect class="page" width="{width}" height="{height}" rx="12"/>',
        f'<text class="head" x="{_MARGIN}" y="36">The rooms of tokenferry, and what imports what</text>',
        *_legend(),
        *(_arrow(arrow, drawn, y) for arrow in drawn.arrows),
        *(_box(drawn.nodes[name], round(drawn.middles[name]), y[name], inner[name]) for name in sorted(graph)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _style() -> str:
    def rules(offset: int) -> str:
        return "".join(
            f".{role} rect{{fill:{colours[offset]};stroke:{colours[offset + 1]}}}"
            f".{role} text{{fill:{colours[offset + 2]}}}"
            for role, colours in _COLOURS.items()
        )

    return (
        "text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}"
        ".name{font-size:14px;font-weight:600;text-anchor:middle}.inner{font-size:10.5px;text-anchor:middle}"
        ".head{font-size:17px;font-weight:600}.note{font-size:12px}rect{stroke-width:1.3}"
        ".arrow{fill:none;stroke:#8c959f;stroke-width:1.2}.tip{fill:#8c959f}"
        ".page{fill:#ffffff;stroke:none}.head{fill:#1f2328}.note{fill:#59636e}"
        f"{rules(0)}"
        "@media (prefers-color-scheme:dark){.page{fill:#0d1117}.head{fill:#e6edf3}.note{fill:#9198a1}"
        f".arrow{{stroke:#656d76}}.tip{{fill:#656d76}}{rules(3)}}}"
    )


def _legend() -> list[str]:
    parts, x = [], _MARGIN
    for role, (meaning, _) in ROLES.items():
        parts.append(f'<g class="{role}"><rect x="{x}" y="50" width="14" height="14" rx="4"/></g>')
        parts.append(f'<text class="note" x="{x + 20}" y="61.5">{meaning}</text>')
        x += 42 + round(len(meaning) * 6.3)
    return parts


def _arrow(arrow: Sequence[str], drawn: Layout, y: Mapping[str, int]) -> str:
    """A smooth line from a room's lower edge through the bends to the upper edge of another room."""
    start, end = arrow[0], arrow[-1]
    leaving = sorted((one for one in drawn.arrows if one[0] == start), key=lambda one: drawn.middles[one[1]])
    coming = sorted((one for one in drawn.arrows if one[-1] == end), key=lambda one: drawn.middles[one[-2]])
    points = [
        (_port(drawn, start, leaving.index(list(arrow)), len(leaving)), y[start] + _BOX),
        *((round(drawn.middles[bend]), y[bend] + _BOX // 2) for bend in arrow[1:-1]),
        (_port(drawn, end, coming.index(list(arrow)), len(coming)), y[end] - 1),
    ]
    path = f"M{points[0][0]} {points[0][1]}"
    for index, ((x, top), (to, bottom)) in enumerate(pairwise(points)):
        out, into = _slope(points, index), _slope(points, index + 1)
        # Straight past the boxes of a row.
        after, before = (_BOX // 2 if index else 0), (_BOX // 2 if index + 2 < len(points) else 0)
        x1, y1, x2, y2 = x + out * after, top + after, to - into * before, bottom - before
        reach = (y2 - y1) / 2
        curve = (x1 + out * reach, y1 + reach, x2 - into * reach, y2 - reach, x2, y2)
        path += (f"L{round(x1)} {y1}" if after else "") + "C" + " ".join(str(round(one)) for one in curve)
    return f'<path class="arrow" marker-end="url(#tip)" d="{path}"><title>{start} imports {end}</title></path>'


def _slope(points: Sequence[Point], index: int) -> float:
    """The sideways movement of a line per step down; 0 at an end or a turn."""
    if index in (0, len(points) - 1):
        return 0.0
    (x, top), (middle, at), (to, bottom) = points[index - 1 : index + 2]
    before, after = (middle - x) / (at - top), (to - middle) / (bottom - at)
    mean = 0.0 if before * after <= 0 else 2 * before * after / (before + after)
    return max(-_STEEPEST, min(_STEEPEST, mean))


def _port(drawn: Layout, name: str, index: int, count: int) -> int:
    step = min(18.0, (drawn.nodes[name].width - 24) / count)
    return round(drawn.middles[name] + (index - (count - 1) / 2) * step)


def _box(node: Node, middle: int, y: int, inner: Sequence[str]) -> str:
    width = round(node.width)
    text = [f'<text class="name" x="{middle}" y="{y + (20 if inner else 27)}">{node.name}</text>']
    if inner:
        text.append(f'<text class="inner" x="{middle}" y="{y + 35}">{_SEPARATOR.join(inner)}</text>')
    box = f'<rect x="{middle - width // 2}" y="{y}" width="{width}" height="{_BOX}" rx="8"/>'
    return f'<g class="{_role(node.name)}">{box}{"".join(text)}</g>'


if __name__ == "__main__":
    found = rooms()
    PICTURE.write_text(svg(imports(found), found), encoding="utf-8")
