"""Claude Code's lock directories against npm's `proper-lockfile`, which made their protocol: in both directions."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from claude_code.rig import HOLDER, eventually, line, running
from e2e.parties import MODULES, PATIENCE, lacking, program
from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeLock, LockTiming
from tokenferry.errors import LockTimeout

pytestmark = pytest.mark.e2e

LEAST_STALE: Final = 2000  # milliseconds: it takes no less
LOCK: Final = """
const lockfile = require(process.argv[1]);
const { folder, stale, which, retries } = JSON.parse(process.argv[2]);
const say = (word) => process.stdout.write(word + "\\n");
const onCompromised = (error) => say(error.code);
const common = { stale, onCompromised, retries: { retries, minTimeout: 100, maxTimeout: 100 } };
const first = () => lockfile.lock(`${folder}/.oauth_refresh`, { ...common, realpath: false });
const second = () => lockfile.lock(folder, common);
const locks = which === "both" ? [first, second] : which === "first" ? [first] : [second];
(async () => {
  const releases = [];
  try {
    for (const lock of locks) releases.unshift(await lock());
  } catch (error) {
    say(error.code);
    process.exit(0);
  }
  say("held");
  process.stdin.resume();
  process.stdin.on("end", async () => {
    for (const release of releases) await release().catch((error) => say(error.code));
    say("released");
    process.exit(0);
  });
})();
"""


@pytest.fixture
def claude(tmp_path: Path) -> ClaudeCodeHome:
    path = tmp_path / "claude" / ".claude"
    path.mkdir(parents=True, mode=0o700)
    return ClaudeCodeHome(path)


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    return tmp_path / "seen"


@contextlib.contextmanager
def node(claude: ClaudeCodeHome, which: str = "both", **given: Any) -> Iterator["subprocess.Popen[str]"]:
    """A Node.js process that locks as Claude Code does, and is killed after the block."""
    package = MODULES / "proper-lockfile"
    if not package.is_dir():
        lacking("the npm package proper-lockfile")
    options = {"folder": str(claude.path), "which": which}
    arguments = json.dumps(options | {"stale": LEAST_STALE, "retries": 0} | given)
    command = [program("node"), "-e", LOCK, str(package), arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def let_go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None


def lock(claude: ClaudeCodeHome, seen: Path, *, stale: float = 60.0) -> ClaudeCodeLock:
    return ClaudeCodeLock(claude, seen, timing=LockTiming(heartbeat=0.2, stale=stale, pause=0.02))


def locks_of(claude: ClaudeCodeHome) -> list[bool]:
    return [claude.refresh_lock.exists(), claude.folder_lock.exists()]


@pytest.mark.parametrize("which", ["both", "first", "second"])
def test_while_it_holds_either_we_wait_and_then_have_both(claude: ClaudeCodeHome, seen: Path, which: str) -> None:
    with node(claude, which) as process:
        assert line(process) == "held"
        with pytest.raises(LockTimeout):
            lock(claude, seen).acquire(0)
        ours = lock(claude, seen)
        let_go(process)
        ours.acquire(PATIENCE)
        assert line(process) == "released"
        assert ours.is_still_ours()
        ours.release()
    assert locks_of(claude) == [False, False]


@pytest.mark.parametrize("which", ["both", "first", "second"])
def test_while_we_hold_it_is_refused_for_longer_than_its_patience(
    claude: ClaudeCodeHome, seen: Path, which: str
) -> None:
    """Forty tries, 100 ms apart, are twice the time after which it would take a lock that nobody touches."""
    ours = lock(claude, seen)
    ours.acquire(0)
    with node(claude, which, retries=2 * LEAST_STALE // 100) as process:
        assert line(process) == "ELOCKED"
    assert ours.is_still_ours()
    ours.release()
    with node(claude, which) as process:
        assert line(process) == "held"
        let_go(process)
        assert line(process) == "released"


def test_what_it_keeps_fresh_is_not_stale_to_us(claude: ClaudeCodeHome, seen: Path) -> None:
    """It touches a lock every second; we would take one that stood still for two, and wait for four."""
    with node(claude) as process:
        assert line(process) == "held"
        with pytest.raises(LockTimeout):
            lock(claude, seen, stale=2.0).acquire(4.0)
        let_go(process)
        assert line(process) == "released"


def test_what_it_left_when_it_was_killed_we_take_over(claude: ClaudeCodeHome, seen: Path) -> None:
    with node(claude) as process:
        assert line(process) == "held"
        process.kill()
        process.wait()
    assert locks_of(claude) == [True, True]
    with pytest.raises(LockTimeout):
        lock(claude, seen).acquire(0)
    ours = lock(claude, seen, stale=0.5)
    ours.acquire(PATIENCE)
    assert ours.is_still_ours()
    with node(claude) as other:
        assert line(other) == "ELOCKED"
    ours.release()


def test_what_we_left_when_we_were_killed_it_takes_over(claude: ClaudeCodeHome, seen: Path) -> None:
    with running(HOLDER, claude.path, seen, 60) as process:
        assert line(process) == "held"
        process.kill()
        process.wait()
    assert locks_of(claude) == [True, True]
    with node(claude, retries=100) as other:
        assert line(other) == "held"
        let_go(other)
        assert line(other) == "released"
    assert locks_of(claude) == [False, False]


def test_when_it_was_suspended_it_finds_its_lock_lost_and_leaves_ours(claude: ClaudeCodeHome, seen: Path) -> None:
    with node(claude) as process:
        assert line(process) == "held"
        process.send_signal(signal.SIGSTOP)
        ours = lock(claude, seen, stale=0.5)
        ours.acquire(PATIENCE)
        process.send_signal(signal.SIGCONT)
        assert [line(process), line(process)] == ["ECOMPROMISED"] * 2
        let_go(process)
        process.wait(PATIENCE)
        assert ours.is_still_ours()
        assert locks_of(claude) == [True, True]
        ours.release()


def test_when_we_were_suspended_we_find_our_lock_lost_and_leave_its(claude: ClaudeCodeHome, seen: Path) -> None:
    with running(HOLDER, claude.path, seen, 60) as process:
        assert line(process) == "held"
        process.send_signal(signal.SIGSTOP)
        with node(claude, retries=100) as other:
            assert line(other) == "held"
            process.send_signal(signal.SIGCONT)
            let_go(process)
            assert line(process) == "lost"
            assert process.wait(PATIENCE) == 0
            assert locks_of(claude) == [True, True]
            let_go(other)
            assert line(other) == "released"
    assert locks_of(claude) == [False, False]


def test_they_never_hold_it_at_once(claude: ClaudeCodeHome, seen: Path) -> None:
    for _ in range(5):
        with node(claude, retries=200) as process:
            ours = lock(claude, seen)
            ours.acquire(PATIENCE)
            eventually(lambda: process.poll() is None)
            assert ours.is_still_ours()
            ours.release()
            assert line(process) == "held"
            assert not ours.is_still_ours()
            let_go(process)
            assert line(process) == "released"
