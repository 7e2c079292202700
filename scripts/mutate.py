"""Mutation testing: change one thing of a room at a time, and run the tests that reach it; one of them should fail.

    python scripts/mutate.py refresh limits routing wire pool
    python scripts/mutate.py wire --sample 200 --seed 1
    python scripts/mutate.py wire/chat 'wire/_*.py'

A mutant is one changed comparison, operator, constant, condition or returned value. Messages and annotations stay. The
script prints each survivor with its line. Read it: the tests have a gap, or the change makes no difference.

Tests are collected once. Each mutant of a function runs in a fork: the function gets the changed code, and only the
tests that call it run, the fastest first. A mutant outside a function gets a process that imports the changed file.
"""

import argparse
import ast
import contextlib
import gc
import importlib.machinery
import inspect
import os
import random
import signal
import sys
import threading
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO, TypeAlias

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src" / "tokenferry"
_BESIDE: Final = {"refresh": ["sim"]}
"""Further test folders of a room."""
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
Functions: TypeAlias = dict[tuple[str, int], types.CodeType]
_QUIET: Final = ("-q", "-s", "-p", "no:cacheprovider")
_CACHED: Final = type(lru_cache(len))
_LEAST_SECONDS: Final = 20
_MOST_SECONDS: Final = 120


class Mutant(NamedTuple):
    """One change to one file."""

    file: Path
    number: int
    """Its number among the changes to this file."""
    line: int
    before: str
    after: str


def mutants(file: Path) -> Iterator[Mutant]:
    """Every mutant of a file."""
    text = file.read_text("utf-8")
    for number in range(len(list(_changes(ast.parse(text))))):
        node, change = list(_changes(ast.parse(text)))[number]
        before = ast.unparse(node)
        change()
        yield Mutant(file, number, node.lineno, before, ast.unparse(node))


def mutated(mutant: Mutant) -> types.CodeType:
    """The code of the file with the change; line numbers stay the same."""
    tree = ast.parse(mutant.file.read_text("utf-8"))
    _, change = list(_changes(tree))[mutant.number]
    change()
    return compile(ast.fix_missing_locations(tree), str(mutant.file), "exec", dont_inherit=True)


def _changes(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, Callable[[], None]]]:
    options = {one.value for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for one in node.keywords}
    for node in ast.walk(tree):
        match node:
            case _ if node in options:  # options such as frozen=True
                pass
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
    """Turn `not x` into `not not x`."""
    node.operand = ast.UnaryOp(ast.Not(), node.operand)


def _is_text(node: ast.expr) -> bool:
    return any(isinstance(one, ast.JoinedStr | ast.BitOr) for one in ast.walk(node)) or any(
        isinstance(one, ast.Constant) and isinstance(one.value, str | bytes) for one in ast.walk(node)
    )


def _inside(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code and all code defined in it, outer before inner."""
    yield code
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield from _inside(one)


def _key(code: types.CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _own(code: types.CodeType) -> types.CodeType:
    """The code without the code defined in it."""
    return code.replace(co_consts=tuple(None if isinstance(one, types.CodeType) else one for one in code.co_consts))


def changed(mutant: Mutant) -> Functions | None:
    """The functions with new code, by name and line; None if the mutant changes code that runs on import."""
    module = mutated(mutant)
    original = compile(mutant.file.read_text("utf-8"), str(mutant.file), "exec", dont_inherit=True)
    old = {_key(one): one for one in _inside(original)}
    different = [one for one in _inside(module) if _own(old[_key(one)]) != _own(one)]
    if not all(one.co_flags & inspect.CO_NEWLOCALS for one in different):
        return None
    holders = [one for one in _inside(module) if any(inner in different for inner in _inside(one))]
    return {_key(one): one for one in holders if one.co_flags & inspect.CO_NEWLOCALS}


class Room:
    """A pytest plugin: instead of running the collected tests once, run them for each mutant."""

    def __init__(self, found: Iterable[tuple[Mutant, Functions]], out: TextIO) -> None:
        self._mutants = list(found)
        self._out = out
        self._reached: dict[tuple[str, tuple[str, int]], list[pytest.Item]] = defaultdict(list)
        self._seconds: dict[pytest.Item, float] = {}
        self._left_out: set[pytest.Item] = set()
        self.survivors = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        gc.unfreeze()  # the tests freeze what they have collected, and `gc.get_objects` leaves that out
        if session.testsfailed:
            raise pytest.UsageError("a module of tests can't be imported")
        caches = _caches()
        for item in session.items:
            for one in caches:  # otherwise the test doesn't reach what an earlier one has called
                one.cache_clear()
            self._record(item)
            if session.testsfailed:
                raise pytest.UsageError(f"{item.nodeid} fails without a mutant")
        if _is_caught(partial(_run, session, session.items, None, {}), _MOST_SECONDS):
            for item in session.items:
                if _is_caught(partial(_run, session, [item], None, {}), _MOST_SECONDS):
                    print(f"left out, since it fails when it is run again: {item.nodeid}", file=self._out, flush=True)
                    self._left_out.add(item)
        for mutant, functions in self._mutants:
            self._judge(session, mutant, functions)
        return True

    def _judge(self, session: pytest.Session, mutant: Mutant, functions: Functions) -> None:
        reached = {one for key in functions for one in self._reached[str(mutant.file), key]} - self._left_out
        tests = sorted(reached, key=self._seconds.__getitem__)
        longest = min(_MOST_SECONDS, _LEAST_SECONDS + 4 * sum(self._seconds[one] for one in tests))
        if not _is_caught(partial(_run, session, tests, mutant.file, functions), longest):
            self.survivors += 1
            _print(mutant, f"{len(tests)} tests reach it", self._out)

    def _record(self, item: pytest.Item) -> None:
        seen: set[types.CodeType] = set()

        def look(frame: types.FrameType, event: str, _: object) -> None:
            if event == "call":
                seen.add(frame.f_code)

        threading.setprofile(look)
        sys.setprofile(look)
        begun = time.monotonic()
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        self._seconds[item] = time.monotonic() - begun
        for code in seen:
            if code.co_filename.startswith(str(SOURCE)):
                self._reached[code.co_filename, _key(code)].append(item)


def _caches() -> list[Any]:
    """The caches of the package's functions."""
    return [one for one in gc.get_objects() if isinstance(one, _CACHED) and one.__module__.startswith("tokenferry")]


def _run(session: pytest.Session, tests: list[pytest.Item], file: Path | None, functions: Functions) -> int:
    """Run tests with a mutant's code until one fails; give 1 if one does."""
    for one in gc.get_objects():
        if isinstance(one, types.FunctionType) and one.__code__.co_filename == str(file):
            one.__code__ = functions.get(_key(one.__code__), one.__code__)
    for cache in _caches():
        cache.cache_clear()
    for item in tests:
        if isinstance(item, pytest.Function):
            item._initrequest()  # noqa: SLF001  # pytest has no public way to run a test again
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        if session.testsfailed:
            return 1
    return 0


def _run_imported(folders: list[str], mutant: Mutant) -> int:
    """Import the mutant and run the room's tests; give pytest's exit code."""
    code = mutated(mutant)
    loader = importlib.machinery.SourceFileLoader
    real = loader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> types.CodeType | None:
        return code if self.path == str(mutant.file) else real(self, fullname)

    loader.get_code = get_code  # type: ignore[method-assign, assignment]
    return int(pytest.main([*_QUIET, "-x", *folders]))


def _is_caught(run: Callable[[], int], seconds: float) -> bool:
    """Whether the run, in a process of its own, fails or exceeds the time."""
    child = os.fork()
    if child == 0:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        status = 1
        with contextlib.suppress(BaseException):
            status = run()
        os._exit(min(status, 1))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            _end(child)
            return status != 0
        time.sleep(0.01)
    _end(child)
    os.waitpid(child, 0)
    return True


def _end(group: int) -> None:
    """Kill the processes that a run left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _print(mutant: Mutant, why: str, out: TextIO) -> None:
    where = f"{mutant.file.relative_to(SOURCE)}:{mutant.line}"
    print(f"survived: {where}: {mutant.before!r} became {mutant.after!r} ({why})", file=out, flush=True)


def _try_functions(folders: list[str], found: list[tuple[Mutant, Functions]]) -> int:
    """Give the number of function mutants that survive."""
    room = Room(found, sys.stdout)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        status = pytest.main([*_QUIET, *folders], plugins=[room])
        if status not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            raise SystemExit(f"the tests of {folders[0]} fail without a mutant")
    return room.survivors


def _in_process(run: Callable[[], int]) -> int:
    """Call in a process of its own, so that its imports don't stay; give the result."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(run()).encode())
        except SystemExit as fault:
            print(fault, file=sys.stderr, flush=True)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    if not text:
        raise SystemExit(1)
    return int(text)


def main() -> None:
    """Try each place; exit with 1 if its tests fail without a mutant."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("places", nargs="+", help="rooms, folders in them, or patterns of files")
    asked.add_argument("--sample", type=int, help="mutants of each place; all if left out")
    asked.add_argument("--seed", type=int, default=1)
    options = asked.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))  # as `python -m pytest` does; tests import the package `bench` from there
    for place in options.places:
        room, files = place.split("/")[0], SOURCE.glob(f"{place}/**/*.py" if (SOURCE / place).is_dir() else place)
        folders = [str(ROOT / "tests" / one) for one in [room, *_BESIDE.get(room, ())]]
        every = [one for file in sorted(files) for one in mutants(file)]
        size = len(every) if options.sample is None else min(options.sample, len(every))
        sample = every if options.sample is None else random.Random(options.seed).sample(every, size)
        in_functions: list[tuple[Mutant, Functions]] = []
        imported: list[Mutant] = []
        for mutant in sample:
            functions = changed(mutant)
            if functions is None:
                imported.append(mutant)
            else:
                in_functions.append((mutant, functions))
        alive = _in_process(partial(_try_functions, folders, in_functions))
        for mutant in imported:
            if not _is_caught(partial(_run_imported, folders, mutant), _MOST_SECONDS):
                alive += 1
                _print(mutant, "at import", sys.stdout)
        print(f"{place}: {size - alive} of {size} mutants caught, of {len(every)}", flush=True)


if __name__ == "__main__":
    main()
