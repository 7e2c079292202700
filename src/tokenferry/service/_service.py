import difflib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from tokenferry.errors import Conflict, UsageError
from tokenferry.service._launchd import Launchd
from tokenferry.service._manager import Manager, Run, RunState, Step, run
from tokenferry.service._program import MARK, Program
from tokenferry.service._systemd import Systemd
from tokenferry.stores import read_private_file, remove_file, replace_private_file

_PAUSE: Final = 1.0


class InstallPlan(Struct, frozen=True):
    """The next content of a service manager's file (None: no file), and the commands before and after the change."""

    path: Path
    before: bytes | None
    after: bytes | None
    first: tuple[Step, ...] = ()
    then: tuple[Step, ...] = ()

    @property
    def changes_file(self) -> bool:
        return self.before != self.after

    def diff(self) -> list[str]:
        """The change of the file as a unified diff."""
        old, new = ((data or b"").decode("utf-8", "replace").splitlines() for data in (self.before, self.after))
        was, becomes = (str(self.path) if data is not None else "(nothing)" for data in (self.before, self.after))
        return list(difflib.unified_diff(old, new, was, becomes, lineterm=""))


class Undone(Struct, frozen=True):
    """Commands that were not carried out, the first of them for that reason."""

    reason: str
    commands: tuple[tuple[str, ...], ...]


class Status(Struct, frozen=True):
    """The state of the service. `is_current`: its file is what `install` would write now."""

    is_installed: bool
    is_current: bool
    state: RunState


class Service:
    """tokenferry as a service of one user: its file, which no other program writes, and the commands for it."""

    def __init__(self, manager: Manager, *, run: Run = run, sleep: Callable[[float], None] = time.sleep) -> None:
        self._manager = manager
        self._run = run
        self._sleep = sleep

    def plan_install(self, program: Program) -> InstallPlan:
        """Plan the file and the start; empty if it runs as it should. Raises `Conflict` for a file that isn't ours."""
        before, after = self._ours(), self._manager.render(program)
        is_as_it_should = before == after and self._manager.state().is_running
        return InstallPlan(self._manager.path, before, after, then=() if is_as_it_should else self._manager.starting())

    def plan_uninstall(self) -> InstallPlan:
        """Plan the end and the removal; empty if nothing is there. Raises `Conflict` for a file that isn't ours."""
        before = self._ours()
        if before is None:
            return InstallPlan(self._manager.path, None, None)
        return InstallPlan(self._manager.path, before, None, self._manager.stopping(), self._manager.forgetting())

    def carry_out(self, plan: InstallPlan) -> Undone | None:
        """Make it so. What the manager doesn't do is reported; the file is written or removed all the same.

        Raises `Conflict` if the file changed since the plan was made, `UnsafeFile`, `StorageFailed`.
        """
        if self._ours() != plan.before:
            raise Conflict(f"{plan.path} was changed by another program; nothing was done; try again")
        undone = self._carry_out(plan.first)
        if plan.after is None:
            remove_file(plan.path)
            for link in self._manager.left_behind():
                if link.is_symlink():
                    link.unlink()
        elif plan.changes_file:
            replace_private_file(plan.path, plan.after)
        if undone is not None:
            return Undone(undone.reason, (*undone.commands, *(step.command for step in plan.then)))
        return self._carry_out(plan.then)

    def status(self, programs: Sequence[Program]) -> Status:
        """Its state; it is current if it runs one of these programs. Raises `UnsafeFile`."""
        found = self._read()
        is_ours = found is not None and _is_ours(found)
        return Status(is_ours, found in [self._manager.render(one) for one in programs], self._manager.state())

    def _carry_out(self, steps: tuple[Step, ...]) -> Undone | None:
        for number, step in enumerate(steps):
            ran = self._run(step.command)
            for _ in range(step.tries - 1):
                if ran.code == 0:
                    break
                self._sleep(_PAUSE)
                ran = self._run(step.command)
            if ran.code and not step.may_fail:
                left = tuple(one.command for one in steps[number:])
                return Undone(ran.reason, left)
        return None

    def _ours(self) -> bytes | None:
        found = self._read()
        if found is not None and not _is_ours(found):
            raise Conflict(
                f"{self._manager.path} was not made by tokenferry, so it is left alone; move it away, then try again"
            )
        return found

    def _read(self) -> bytes | None:
        try:
            return read_private_file(self._manager.path, readable_by_others=True)
        except FileNotFoundError:
            return None


def manager_here(environ: Mapping[str, str], person: Path, *, platform: str = sys.platform) -> Manager:
    """The service manager of this platform. Raises `UsageError` where none is known."""
    if platform == "linux":
        return Systemd.of(environ, person)
    if platform == "darwin":
        return Launchd(person)
    raise UsageError(
        f"no service manager is known on {platform}; let yours run `tokenferry refresh --watch`, or a timetable "
        "`tokenferry refresh --due` every 5 minutes"
    )


def _is_ours(found: bytes) -> bool:
    """Whether a comment near its beginning is our mark."""
    mark = MARK.encode()
    return any(line.startswith((b"# " + mark, b"<!-- " + mark)) for line in found.splitlines()[:5])
