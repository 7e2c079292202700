import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from tokenferry.service._program import Program

_PATIENCE: Final = 240.0  # a service that ends waits for a refresh in flight
_NOT_FOUND: Final = 127


class Ran(Struct, frozen=True):
    """How a command ended."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def reason(self) -> str:
        """The first line of its output."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return lines[0] if lines else f"it ended with exit code {self.code}"


Run: TypeAlias = Callable[[Sequence[str]], Ran]


def run(command: Sequence[str]) -> Ran:
    """Run a command to its end. One that can't be run is a `Ran`, too."""
    try:
        done = subprocess.run(  # noqa: S603  # our own words, and no shell
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return Ran(_NOT_FOUND, err=f"{command[0]} is not there")
    except (OSError, subprocess.TimeoutExpired) as fault:
        return Ran(_NOT_FOUND, err=f"{command[0]} could not be run: {type(fault).__name__}")
    return Ran(done.returncode, done.stdout, done.stderr)


class Step(Struct, frozen=True):
    """One command of a service manager."""

    command: tuple[str, ...]
    may_fail: bool = False
    tries: int = 1


class RunState(Struct, frozen=True):
    """What a service manager says of the service, in its words; None where it says nothing."""

    enabled: str | None = None
    active: str | None = None
    is_running: bool = False


class Manager(Protocol):
    """A service manager of one user: what its file is like, and the commands that make it count."""

    name: str
    path: Path

    def render(self, program: Program) -> bytes: ...

    def starting(self) -> tuple[Step, ...]: ...

    def stopping(self) -> tuple[Step, ...]:
        """Before the file is removed."""
        ...

    def forgetting(self) -> tuple[Step, ...]:
        """After the file is removed."""
        ...

    def state(self) -> RunState: ...

    def left_behind(self) -> tuple[Path, ...]:
        """Links that the manager made to the file."""
        ...

    def advice(self) -> str:
        """What a person may want to know once it runs."""
        ...
