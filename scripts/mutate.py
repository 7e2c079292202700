"""Mutation testing: changes one thing in a copy of a room, and runs the room's tests, which ought to fail.

    python scripts/mutate.py refresh limits routing wire pool --sample 20 --seed 1

A mutant is one comparison, operator, constant, condition or returned value. Survivors are printed with their line; read
each: it is a gap in the tests, or the change means nothing. No mutant touches messages, annotations or docstrings.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
_SWAPS: Final[dict[type, type]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
}
_SECONDS: Final = 240


class Mutant(NamedTuple):
    """One change of one file."""

    file: Path
    """Below src/tokenferry."""
    line: int
    before: str
    after: str
    source: str
    """Of the whole file."""


def mutants(file: Path, source: Path) -> Iterator[Mutant]:
    """Every mutant of a file below a folder of sources."""
    text = (source / file).read_text("utf-8")
    for number in range(len(list(_changes(ast.parse(text))))):
        tree = ast.parse(text)
        node, change = list(_changes(tree))[number]
        before = ast.unparse(node)
        change()
        yield Mutant(file, node.lineno, before, ast.unparse(node), ast.unparse(tree))


def _changes(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, Callable[[], None]]]:
    for node in ast.walk(tree):
        match node:
            case ast.Compare(ops=[one]) if type(one) in _SWAPS:
                yield node, lambda node=node, one=one: node.ops.__setitem__(0, _SWAPS[type(one)]())  # type: ignore[misc]
            case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in _SWAPS and not _is_text(node):
                yield node, lambda node=node, op=op: setattr(node, "op", _SWAPS[type(op)]())  # type: ignore[misc]
            case ast.UnaryOp(op=ast.Not()):
                yield node, partial(_bare, node)
            case ast.Constant(value=bool(value)):
                yield node, lambda node=node, value=value: setattr(node, "value", not value)  # type: ignore[misc]
            case ast.Constant(value=int(value)):
                yield node, lambda node=node, value=value: setattr(node, "value", value + 1)  # type: ignore[misc]
            case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
                yield node, lambda node=node: setattr(node, "value", ast.Constant(None))  # type: ignore[misc]


def _bare(node: ast.UnaryOp) -> None:
    """`not x` becomes `not not x`."""
    node.operand = ast.UnaryOp(ast.Not(), node.operand)


def _is_text(node: ast.expr) -> bool:
    return any(isinstance(one, ast.JoinedStr | ast.BitOr) for one in ast.walk(node)) or any(
        isinstance(one, ast.Constant) and isinstance(one.value, str | bytes) for one in ast.walk(node)
    )


def survives(mutant: Mutant, copy: Path) -> bool:
    """Whether the tests of the file's own name, and then all of its room, pass with the mutant in place."""
    path = copy / "src" / "tokenferry" / mutant.file
    original = path.read_text("utf-8")
    path.write_text(mutant.source, "utf-8")
    room = mutant.file.parts[0]
    own = list((copy / "tests" / room).rglob(f"test_{mutant.file.stem.lstrip('_')}.py"))
    try:
        return all(_passes(tests, copy) for tests in ([own] if own else []) + [[copy / "tests" / room]])
    finally:
        path.write_text(original, "utf-8")


def _passes(tests: list[Path], copy: Path) -> bool:
    variables = os.environ | {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *map(str, tests)]
    try:
        done = subprocess.run(command, cwd=copy, env=variables, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("rooms", nargs="+")
    asked.add_argument("--sample", type=int, default=20, help="mutants of each room")
    asked.add_argument("--seed", type=int, default=1)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        copy = Path(folder) / "tree"
        kept = shutil.ignore_patterns(".git", ".venv", "node_modules", "__pycache__", "site", "dist", ".mypy_cache")
        shutil.copytree(ROOT, copy, symlinks=True, ignore=kept)
        for room in options.rooms:
            if not _passes([copy / "tests" / room], copy):
                raise SystemExit(f"the tests of {room} fail without any mutant")
            source = copy / "src" / "tokenferry"
            files = [path.relative_to(source) for path in sorted((source / room).rglob("*.py"))]
            found = [one for file in files for one in mutants(file, source)]
            sample = random.Random(options.seed).sample(found, min(options.sample, len(found)))
            alive = 0
            for mutant in sample:
                if survives(mutant, copy):
                    alive += 1
                    print(
                        f"survived: {mutant.file}:{mutant.line}: {mutant.before!r} became {mutant.after!r}", flush=True
                    )
            print(f"{room}: {len(sample) - alive} of {len(sample)} sampled mutants caught, of {len(found)}", flush=True)


if __name__ == "__main__":
    main()
