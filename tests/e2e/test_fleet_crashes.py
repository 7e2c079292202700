"""A process of one host dies by SIGKILL at each step of a refresh in turn, and the other hosts go on."""

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from e2e.conftest import Tell
from e2e.fleet import Fleet, FleetHost
from e2e.parties import SandboxProcess
from e2e.postgres import VERSIONS, PostgresServer

if TYPE_CHECKING:
    from subprocess import Popen

pytestmark = [pytest.mark.e2e, pytest.mark.parametrize("postgres", VERSIONS[:1], indirect=True)]

_TESTS: Final = Path(__file__).parents[1]
_MANY: Final = 200
_LEASE: Final = 21
"""Seconds after which the lock and the attempt of a dead process have lapsed."""
_SECOND_PRESENTATION: Final = 121


class Processes:
    """Of one host: each resolves the account and ends, perhaps before it is done."""

    def __init__(self, host: FleetHost, folder: Path) -> None:
        self._folder = folder
        self._parent: Popen[str] = host.begin(
            "env", f"PYTHONPATH={_TESTS}", sys.executable, "-m", "e2e.children.fleet_crash", stdin_open=True
        )

    def add(self, name: str, login: object) -> None:
        assert self._run(name, json.dumps(login)) == (0, "")

    def ask(self, name: str) -> str:
        """The sha256 of the token, or the error with its message."""
        status, said = self._run(name, 0, "/dev/null")
        assert status == 0
        return said

    def crash(self, name: str, last: int) -> tuple[str, ...]:
        """How far a process came that dies before that step, by its own notes."""
        log = self._folder / f"{name}.notes"
        status, said = self._run(name, last, str(log))
        notes = tuple(log.read_text().splitlines())
        assert status == (0 if "done" in notes else signal.SIGKILL), (notes, said)
        return notes

    def _run(self, *given: object) -> tuple[int, str]:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(f"{json.dumps(given)}\n")
        self._parent.stdin.flush()
        status, said = json.loads(self._parent.stdout.readline())
        return status, said


@pytest.fixture
def fleet(sandbox: SandboxProcess, postgres: PostgresServer, tmp_path: Path) -> Iterator[Fleet]:
    database = postgres.create()
    hosts = [FleetHost(tmp_path / name, postgres.url(database), sandbox.url, tmp_path / "key") for name in ("a", "b")]
    made = Fleet(hosts, postgres, database, sandbox)
    made.form()
    yield made
    postgres.drop(database)


class Crashes:
    """Logins of which each was amid a refresh on one host when the process died."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._fleet = fleet
        self.dying, self.other = (Processes(host, folder) for host in fleet.hosts)
        self._begun = (0, 0)
        self.notes: tuple[str, ...] = ()

    def make(self, name: str, last: int) -> bool:
        """Whether a process died; then its lock and its attempt have lapsed."""
        self.dying.add(name, self._fleet.sandbox.issue())
        self._begun = self._fleet.figures()
        self.notes = self.dying.crash(name, last)
        self._fleet.let_pass(_LEASE)
        return "done" not in self.notes

    def figures(self) -> tuple[int, int]:
        """How many grants and reuses there were since."""
        grants, reuses = self._fleet.figures()
        return grants - self._begun[0], reuses - self._begun[1]

    def check_alive(self, name: str, said: str, there: Processes) -> None:
        """It was renewed once, and is one for all."""
        assert len(said) == 64, (self.notes, said)
        assert there.ask(name) == said
        assert self.figures() == (1, 0), self.notes

    def check_waits(self, name: str, said: str) -> None:
        """Nothing is presented yet; then that time passes."""
        assert said.startswith("RefreshUncertain"), (self.notes, said)
        assert self.figures() == (int("presented" in self.notes), 0), self.notes
        self._fleet.let_pass(_SECOND_PRESENTATION)

    def check_second_presentation(self, name: str) -> str:
        """The other host presents the token once more; gives what became of it."""
        said = self.other.ask(name)
        if "presented" not in self.notes:
            self.check_alive(name, said, self.dying)
            return "nothing had left"
        assert said.startswith("NeedsLogin"), (self.notes, said)
        assert self.figures() == (1, 1), self.notes
        said = self.dying.ask(name)  # which may have the answer on its disk, and can't know that it is worth nothing
        assert said.startswith("NeedsLogin") != ("journalled" in self.notes), (self.notes, said)
        assert self.figures() == (1, 1), "it is presented no more"
        return "the answer was lost"


def test_no_step_of_a_refresh_keeps_another_host_from_going_on(fleet: Fleet, tmp_path: Path, tell: Tell) -> None:
    """Nothing is presented that may have been, until its host says what became of it or a wait is over.

    A login is lost only if its answer was lost with the process, or is on the disk of a host that is gone for good.
    """
    crashes = Crashes(fleet, tmp_path)
    ends: Counter[str] = Counter()
    for last in count(1):
        name = f"step-{last}"
        if not crashes.make(name, last):
            break
        assert last < _MANY
        said = crashes.other.ask(name)
        if not said.startswith("RefreshUncertain"):
            crashes.check_alive(name, said, crashes.dying)
            ends["nothing was in flight"] += 1
            continue
        crashes.check_waits(name, said)
        ends[f"its host is gone: {crashes.check_second_presentation(name)}"] += 1

        name = f"back-{last}"
        assert crashes.make(name, last)
        said = crashes.dying.ask(name)
        if said.startswith("RefreshUncertain"):
            crashes.check_waits(name, crashes.other.ask(name))
            said = crashes.check_second_presentation(name)
        else:
            crashes.check_alive(name, said, crashes.other)
            said = "it was published" if "presented" in crashes.notes else "it was taken back"
        ends[f"its host is back: {said}"] += 1
    tell(f"crash points of a refresh on one host of two: {dict(ends)}")
    assert len(ends) == 7
