"""A home on a real file system that is full, or read-only, at the worst moments: nothing is lost."""

import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from e2e.conftest import Tell
from e2e.issuer import Issuer
from e2e.parties import (
    CHILDREN,
    COMMAND,
    Outcome,
    add_login,
    begin,
    digest,
    document,
    end,
    eventually,
    lacking,
    program,
)
from tokenferry.refresh import FileJournal
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

PAGE: Final = 4096
STORAGE_FAILED: Final = 1


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs of 512 KiB, the home, that only the processes of one mount namespace see."""

    home: Home
    inside: tuple[str, ...]
    """What a command begins with to run in that namespace."""

    def tokenferry(self, *arguments: str) -> Outcome:
        return end(self.begin(*arguments))

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        return begin(*self.inside, COMMAND, *arguments)

    def mount(self, *arguments: str) -> None:
        subprocess.run([*self.inside, program("mount"), *arguments], check=True)

    def fill(self, *, free: int = 0) -> None:
        """Leave so many pages free."""
        with self._ballast.open("wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(PAGE))
            assert os.statvfs(self.home.path).f_bfree == 0
            file.truncate(file.tell() - free * PAGE)

    def make_room(self) -> None:
        self._ballast.unlink()

    @property
    def _ballast(self) -> Path:
        return self.home.path / "ballast"

    def token(self, name: str) -> str:
        """The sha256 of the access token in the account's document."""
        return document(self.home, name).credential.secret.sha256

    def has_answer(self, name: str) -> bool:
        attempt = FileJournal(self.home.journal).attempt(name)
        return attempt is not None and attempt.answer is not None


@pytest.fixture
def disk(issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = 'mount -t tmpfs -o size=512k,mode=0700 tmpfs "$1" && echo mounted && exec cat'
    unprivileged = os.geteuid() != 0
    arguments = [program("unshare"), "--mount", "--propagation", "private"]
    arguments += ["--map-root-user"] if unprivileged else []
    with subprocess.Popen(
        [*arguments, "sh", "-c", mount, "sh", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"mounted\n":
                lacking("the right to mount a file system in a namespace of one's own")
            home = Home(Path(f"/proc/{process.pid}/root{folder}"))
            issuer.configure(home)
            monkeypatch.setenv("TOKENFERRY_HOME", str(folder))
            inside = [program("nsenter"), "--target", str(process.pid), "--mount"]
            inside += ["--user", "--preserve-credentials"] if unprivileged else []
            yield SmallDisk(home, (*inside, "--"))
        finally:
            process.kill()


def granted(issuer: Issuer, name: str) -> list[str]:
    found = [one for one in issuer.presentations() if one["account"] == name]
    assert all(one["outcome"] == "granted" for one in found)
    return [one["granted"] for one in found]


def check_published(disk: SmallDisk, issuer: Issuer, name: str) -> None:
    """With room again, the next command gives and publishes the one token that was granted."""
    after = disk.tokenferry("token", name)
    assert after.code == 0, after
    assert [digest(after.out.strip())] == granted(issuer, name) == [disk.token(name)]
    assert issuer.figures(name) == {"grants": 1, "reuses": 0}


def test_however_little_room_there_is_nothing_is_lost(disk: SmallDisk, issuer: Issuer, tell: Tell) -> None:
    ends: Counter[str] = Counter()
    for free in (0, 1, 2, 8, 14, 15, 16, 17, 18, 19, 20, 24):
        name = f"free-{free}"
        issuer.add(disk.home, name)
        old = disk.token(name)
        disk.fill(free=free)
        outcome = disk.tokenferry("token", name)
        if outcome.code == 0:
            assert [digest(outcome.out.strip())] == granted(issuer, name)
            assert disk.token(name) != old, "room for the answer's document was there before anything was sent"
            ends["published"] += 1
        else:
            ends["nothing sent"] += 1
            assert outcome.code == STORAGE_FAILED
            assert "has no room for a temporary file" in outcome.one_sentence()
            assert granted(issuer, name) == []
            assert disk.token(name) == old
        disk.make_room()
        check_published(disk, issuer, name)
    tell(f"full disk, by the room left: {dict(ends)}")
    assert set(ends) == {"nothing sent", "published"}


@contextlib.contextmanager
def answered_meanwhile(disk: SmallDisk, issuer: Issuer) -> Iterator["subprocess.Popen[str]"]:
    """A command that waits for its grant while something befalls the disk within the block; then it is answered."""
    issuer.add(disk.home, "work")
    issuer.hold("after")
    process = disk.begin("token", "work")
    eventually(lambda: [one["state"] for one in issuer.presentations()] == ["decided"], "the grant is made")
    yield process
    issuer.hold(None)


def test_a_disk_that_fills_up_during_the_grant_delays_publishing_alone(disk: SmallDisk, issuer: Issuer) -> None:
    with answered_meanwhile(disk, issuer) as process:
        old = disk.token("work")
        disk.fill()
    outcome = end(process)
    assert outcome.code == 0, outcome
    assert [digest(outcome.out.strip())] == granted(issuer, "work")
    assert outcome.err.count("\n") == 1
    assert "served from memory" in outcome.err
    assert disk.token("work") == old
    assert disk.has_answer("work")

    second = disk.tokenferry("token", "work")
    assert (second.code, second.out) == (0, outcome.out), "it is served from the journal while the disk is full"
    assert len(granted(issuer, "work")) == 1

    disk.make_room()
    check_published(disk, issuer, "work")


def test_a_living_process_publishes_by_itself_when_there_is_room_again(disk: SmallDisk, issuer: Issuer) -> None:
    issuer.add(disk.home, "work")
    issuer.hold("after")
    process = begin(*disk.inside, sys.executable, str(CHILDREN / "linger.py"), "work", stdin_open=True)
    try:
        eventually(lambda: [one["state"] for one in issuer.presentations()] == ["decided"], "the grant is made")
        disk.fill()
        issuer.hold(None)
        assert process.stdout is not None
        assert [process.stdout.readline().strip()] == granted(issuer, "work") != [disk.token("work")]
        disk.make_room()
        eventually(lambda: [disk.token("work")] == granted(issuer, "work"), "it is published")
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        outcome = end(process)
    finally:
        process.kill()
    assert [outcome.out.strip()] == granted(issuer, "work")
    assert not disk.has_answer("work")


def test_a_read_only_disk_sends_nothing_and_serves_what_is_fresh(disk: SmallDisk, issuer: Issuer) -> None:
    issuer.add(disk.home, "work")
    fresh = issuer.login("other") | {"access_token": "fresh-token", "expires_at": 4_000_000_000}
    add_login(disk.home, "fresh", "idp", fresh)
    disk.mount("-o", "remount,ro", str(Path(os.environ["TOKENFERRY_HOME"])))
    outcome = disk.tokenferry("token", "work")
    assert outcome.code == STORAGE_FAILED
    assert "Read-only file system" in outcome.one_sentence()
    assert issuer.presentations() == []
    served = disk.tokenferry("token", "fresh")
    assert (served.code, served.out, served.err) == (0, "fresh-token\n", "")
    disk.mount("-o", "remount,rw", str(Path(os.environ["TOKENFERRY_HOME"])))
    check_published(disk, issuer, "work")


def test_documents_that_turn_read_only_during_the_grant_delay_publishing_alone(disk: SmallDisk, issuer: Issuer) -> None:
    accounts = str(Path(os.environ["TOKENFERRY_HOME"]) / "accounts")
    with answered_meanwhile(disk, issuer) as process:
        old = disk.token("work")
        disk.mount("--bind", accounts, accounts)
        disk.mount("-o", "remount,ro,bind", accounts)
    outcome = end(process)
    assert outcome.code == 0, outcome
    assert [digest(outcome.out.strip())] == granted(issuer, "work")
    assert "Read-only file system" in outcome.err
    assert disk.token("work") == old
    subprocess.run([*disk.inside, program("umount"), accounts], check=True)
    check_published(disk, issuer, "work")
