"""A process dies at any step of a move, and what it leaves is one living login each, whoever comes next."""

import tempfile
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Final, Literal, TypeAlias

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from typing_extensions import override

from claude_code.moves.rig import QUICK, QuickDisk, World
from effort import STRIDE, effort
from tokenferry.errors import TokenferryError

Before: TypeAlias = Literal["nothing", "alice", "stranger", "stub"]
Next: TypeAlias = Literal["move bob", "move alice", "renew alice", "renew bob", "recover", "nothing"]

BEFORE: Final[tuple[Before, ...]] = ("nothing", "alice", "stranger", "stub")
NEXT: Final[tuple[Next, ...]] = ("move bob", "move alice", "renew alice", "renew bob", "recover", "nothing")
MANY: Final = 400


class Killed(BaseException):
    """The process is no more."""


class MortalDisk(QuickDisk):
    """Dies before the operation of that number, or in the middle of a write; a dead process does nothing further."""

    def __init__(self, last: int | None) -> None:
        self._last = last
        self._count = 0
        self.is_dead = False
        self.place = ""

    def _step(self, what: str) -> None:
        self._count += 1
        if self.is_dead or self._count == self._last:
            self.is_dead = True
            self.place = self.place or what
            raise Killed

    @override
    def read(self, path: Path) -> bytes:
        self._step(f"read {path.name}")
        return super().read(path)

    @override
    def create(self, path: Path) -> int:
        self._step(f"create {path.name}")
        return super().create(path)

    @override
    def open(self, path: Path) -> int:
        self._step(f"open {path.name}")
        return super().open(path)

    @override
    def write(self, descriptor: int, data: bytes, offset: int = 0) -> None:
        self._step("write")
        super().write(descriptor, data[: len(data) // 2], offset)
        self._step("write's second half")
        super().write(descriptor, data, offset)

    @override
    def fsync(self, descriptor: int) -> None:
        self._step("fsync")
        super().fsync(descriptor)

    @override
    def close(self, descriptor: int) -> None:
        super().close(descriptor)  # as the system does for a dead one

    @override
    def rename(self, old: Path, new: Path) -> None:
        self._step(f"rename to {new.name}")
        super().rename(old, new)

    @override
    def unlink(self, path: Path) -> None:
        self._step(f"unlink {path.name}")
        super().unlink(path)

    @override
    def sync_folder(self, path: Path) -> None:
        self._step(f"sync {path.name}")
        super().sync_folder(path)

    @override
    def names(self, folder: Path) -> list[str]:
        if self.is_dead:
            raise Killed
        return super().names(folder)


def begin(folder: Path, before: Before, *, has_ids: bool, is_mac: bool = False) -> World:
    world = World(folder, has_ids=has_ids, is_mac=is_mac)
    world.add("alice")
    world.add("bob")
    if before == "alice":
        world.mover().move("alice")
        world.claude_renews()
    elif before in {"stranger", "stub"}:
        world.log_in("stranger")
    if before == "stub":
        world.log_out()
    return world


def act(world: World, what: Next, last: int | None) -> MortalDisk:
    """Do one thing in a process that may die of it."""
    disk = MortalDisk(last)
    verb, _, name = what.partition(" ")
    try:
        if verb == "move":
            world.mover(disk).move(name)
        elif verb == "renew":
            world.renew_here(name, world.store(disk))
        elif verb == "recover":
            world.mover(disk).recover()
    except Killed:
        assert disk.is_dead
    return disk


def is_taken_in(world: World) -> bool:
    return "claude-code" in world.store(QUICK).names()


def check_end(world: World, before: Before) -> None:
    """A process that lives comes by, and everything is as it should be."""
    world.mover(QUICK).recover()
    assert world.mover(QUICK).pending() is None
    accounts = {"alice": "alice", "bob": "bob"}
    if before == "stranger":
        if is_taken_in(world):
            accounts["claude-code"] = "stranger"
        else:
            assert world.claude_has() == "stranger"
    if before != "nothing":
        world.claude_renews()
        assert world.document()["claudeAiOauth"]
    world.check(accounts)
    leftovers = [path.name for path in world.claude.path.iterdir() if path.name != ".credentials.json"]
    assert [name for name in leftovers if "tokenferry" in name] == []


@pytest.mark.parametrize(("renews", "has_ids"), [(False, True), (True, False)])
@pytest.mark.parametrize("before", BEFORE)
def test_a_move_that_died_at_any_step_is_completed_or_undone(
    tmp_path: Path, before: Before, *, renews: bool, has_ids: bool
) -> None:
    ends: Counter[str | None] = Counter()
    for last in count(1 + BEFORE.index(before) % STRIDE, STRIDE):
        world = begin(tmp_path / str(last), before, has_ids=has_ids)
        disk = act(world, "move bob", last)
        world.check_readers()
        if not disk.is_dead:
            break
        assert last < MANY
        if renews:
            world.claude_renews()
            world.check_readers()
        for name in ("alice", "bob") if last % 2 else ("bob", "alice"):
            world.renew_here(name)  # who asks for the lock of either brings it to its end
        ends[world.claude_has()] += 1
        check_end(world, before)
        world.mover(QUICK).move("bob")
        assert world.claude_has() == "bob"
    assert ends["bob"] > MANY // 80 // STRIDE
    if renews and before in {"alice", "stranger"}:
        assert ends[before] > MANY // 80 // STRIDE, "what Claude Code renewed before is not moved again unasked"


@pytest.mark.parametrize("renews", [False, True], ids=["quiet", "renewing"])
def test_without_a_trace_of_the_write_the_login_itself_tells_whose_it_is(tmp_path: Path, *, renews: bool) -> None:
    """As on macOS."""
    for last in count(1 + renews, STRIDE):
        world = begin(tmp_path / str(last), "alice", has_ids=True, is_mac=True)
        if not act(world, "move bob", last).is_dead:
            break
        if renews:
            world.claude_renews()
        world.check_readers()
        check_end(world, "alice")


@pytest.mark.parametrize("before", ["alice", "stranger"])
def test_a_recovery_that_died_at_any_step_is_gone_on_with(tmp_path: Path, before: Before) -> None:
    steps = 0
    for first in count(1, 5 * STRIDE):
        world = begin(tmp_path / str(first), before, has_ids=False)
        if not act(world, "move bob", first).is_dead:
            break
        for last in count(1, 2):
            world = begin(tmp_path / f"{first}-{last}", before, has_ids=False)
            act(world, "move bob", first)
            if (first + last) % 4 == 0:
                world.claude_renews()
            if not act(world, "recover", last).is_dead:
                break
            steps += 1
            if last % 3 == 0:
                world.claude_renews()
            world.check_readers()
            check_end(world, before)
    assert steps > MANY // 20


@given(
    before=st.sampled_from(BEFORE),
    has_ids=st.booleans(),
    lives=st.lists(
        st.tuples(st.sampled_from(NEXT), st.integers(1, 120) | st.none(), st.booleans()), min_size=1, max_size=6
    ),
)
@examples(max_examples=effort(40))
def test_any_number_of_deaths_among_any_number_of_parties_leaves_each_login_alive_once(
    *, before: Before, has_ids: bool, lives: list[tuple[Next, int | None, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = begin(Path(folder), before, has_ids=has_ids)
        for what, last, renews in lives:
            try:
                act(world, what, last)
            except TokenferryError as fault:
                raise AssertionError(f"{what}: {fault}") from fault
            world.check_readers()
            if renews:
                world.claude_renews()
                world.check_readers()
        check_end(world, before)
