"""A process dies by SIGKILL at each step of a refresh in turn, and the next command finds the login alive."""

import signal
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from secrets import token_hex

import pytest

from cli.harness import tokenferry
from e2e.conftest import Tell
from e2e.issuer import Issuer
from e2e.parties import (
    CHILDREN,
    COMMAND,
    Outcome,
    age_attempt,
    begin,
    digest,
    document,
    end,
    eventually,
)
from tokenferry.refresh import FileJournal
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

NEEDS_LOGIN = 5
TRY_LATER = 6
MANY = 200


@dataclass(frozen=True)
class Crash:
    """How far a child came before it died, by its own notes."""

    outcome: Outcome
    notes: tuple[str, ...]

    @property
    def is_done(self) -> bool:
        return "done" in self.notes

    @property
    def is_presented(self) -> bool:
        return "presented" in self.notes

    @property
    def is_journalled(self) -> bool:
        return "journalled" in self.notes

    @property
    def place(self) -> str:
        return next((note for note in self.notes if note.startswith("dead before")), "done")


def crash(name: str, last: int, folder: Path) -> Crash:
    log = folder / f"{token_hex(4)}.notes"
    outcome = end(begin(sys.executable, str(CHILDREN / "crash.py"), name, str(last), str(log)))
    notes = tuple(log.read_text().splitlines())
    assert outcome.code == (0 if "done" in notes else -signal.SIGKILL), outcome
    return Crash(outcome, notes)


def is_open(home: Home, name: str) -> bool:
    """Whether bytes of a request may have been sent whose answer isn't there."""
    attempt = FileJournal(home.journal).attempt(name)
    return attempt is not None and (attempt.state, attempt.answer) == ("open", None)


def check_it_waits(issuer: Issuer, home: Home, name: str) -> None:
    """The next command presents nothing and says when to try again; then that time passes."""
    before = issuer.presentations()
    assert tokenferry("token", name).code == TRY_LATER
    assert issuer.presentations() == before
    age_attempt(home, name)


def check_alive(issuer: Issuer, home: Home, name: str, place: str) -> None:
    """The next command gives the one token that was granted, and the chain goes on from there.

    Where bytes of the request may have been sent it does so only after 120 s, and nothing is presented before.
    """
    if is_open(home, name):
        check_it_waits(issuer, home, name)
    after = tokenferry("token", name)
    assert after.code == 0, (place, after)
    found = [one for one in issuer.presentations() if one["account"] == name]
    assert [one["outcome"] for one in found] == ["granted"], place
    assert digest(after.out.strip()) == found[0]["granted"] == document(home, name).credential.secret.sha256, place
    renewed = tokenferry("refresh", name)
    assert renewed.code == 0, (place, renewed)
    assert issuer.figures(name) == {"grants": 2, "reuses": 0}, place
    assert FileJournal(home.journal).attempt(name) is None, place
    names = [path.name for folder in (home.accounts, home.journal) for path in folder.iterdir()]
    torn = (f".{name}.json.tmp.", f".{name}.attempt.tmp.")  # what may hold tokens
    assert [other for other in names if other.startswith(torn)] == [], place


def forget(home: Home, name: str) -> None:
    """Take the account away: a broker reads every document once, and the next one is to take as many steps."""
    (home.accounts / f"{name}.json").unlink()


def test_no_step_between_reading_and_publishing_loses_a_login(
    issuer: Issuer, home: Home, tmp_path: Path, tell: Tell
) -> None:
    ends: Counter[str] = Counter()
    for last in count(1):
        name = f"step-{last}"
        issuer.add(home, name)
        crashed = crash(name, last, tmp_path)
        if crashed.is_done:
            break
        assert last < MANY
        if crashed.is_presented and not crashed.is_journalled:
            # The answer died with the process: what the next one can do is to try, and to say that it was in vain.
            ends["answer lost"] += 1
            check_it_waits(issuer, home, name)
            after = tokenferry("token", name)
            assert after.code == NEEDS_LOGIN, crashed
            assert f"tokenferry login {name}" in after.one_line()
            assert issuer.figures(name) == {"grants": 1, "reuses": 1}, crashed
        else:
            ends["journalled" if crashed.is_journalled else "nothing sent"] += 1
            check_alive(issuer, home, name, crashed.place)
        forget(home, name)
    tell(f"crash points of a refresh: {last - 1}, of which {dict(ends)}")
    assert min(ends.values()) > 0
    assert ends["answer lost"] < ends["journalled"]


def test_no_step_of_the_recovery_loses_what_was_journalled(
    issuer: Issuer, home: Home, tmp_path: Path, tell: Tell
) -> None:
    issuer.add(home, "whole")
    steps = crash("whole", 0, tmp_path).outcome.out.splitlines()[1:]
    forget(home, "whole")
    first_unpublished = steps.index("journal fsync", steps.index("answer")) + 1
    for last in count(1):
        name = f"again-{last}"
        issuer.add(home, name)
        before = crash(name, first_unpublished, tmp_path)
        assert before.is_journalled
        crashed = crash(name, last, tmp_path)
        if crashed.is_done:
            break
        assert last < MANY
        assert not crashed.is_presented, crashed
        check_alive(issuer, home, name, crashed.place)
        forget(home, name)
    tell(f"crash points of a recovery: {last - 1}, none of which lost anything")
    assert last > 1


def killed(issuer: Issuer, when: str, state: str) -> None:
    """Kill a command while the server holds its request, and let the server go on."""
    issuer.hold(when)
    process = begin(COMMAND, "token", "work")
    eventually(
        lambda: [one["state"] for one in issuer.presentations()] == [state] or process.poll() is not None,
        "the request is there",
    )
    process.kill()
    assert end(process).code == -signal.SIGKILL
    issuer.hold(None)


def test_a_request_that_the_server_never_carried_out_is_made_again(issuer: Issuer, home: Home) -> None:
    issuer.add(home, "work")
    killed(issuer, "before", "waiting")
    assert is_open(home, "work")
    check_it_waits(issuer, home, "work")
    assert tokenferry("token", "work").code == 0
    assert issuer.figures("work") == {"grants": 1, "reuses": 0}


def test_an_answer_that_died_on_its_way_ends_the_login_with_one_more_request(issuer: Issuer, home: Home) -> None:
    issuer.add(home, "work")
    killed(issuer, "after", "decided")
    assert is_open(home, "work")
    check_it_waits(issuer, home, "work")
    for _ in range(2):
        after = tokenferry("token", "work")
        assert after.code == NEEDS_LOGIN
        assert "tokenferry login work" in after.one_line()
        assert issuer.figures("work") == {"grants": 1, "reuses": 1}, "a dead token is presented no more"
