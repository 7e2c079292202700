"""Sealed homes with a real Secret Service, in a session without a screen; and sealing that is killed at every step."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from e2e.conftest import AddLogin, Tell
from e2e.parties import (
    CHILDREN,
    COMMAND,
    SandboxProcess,
    begin,
    end,
    eventually,
    program,
    running,
    tokenferry,
)
from leaks import shows
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

KEY = "sk-ant-api03-" + "k" * 80
PASSWORD = "throw-away"
LOCK = (
    "import contextlib, secretstorage\n"
    "with contextlib.closing(secretstorage.dbus_init()) as bus: secretstorage.Collection(bus).lock()"
)
MANY = 300


class Session:
    """A D-Bus session with a GNOME keyring, of its own and without a screen."""

    def __init__(self, folder: Path) -> None:
        self._program = program("gnome-keyring-daemon")
        self._folder = folder
        self._daemon: subprocess.Popen[bytes] | None = None
        self._log = subprocess.DEVNULL

    @contextlib.contextmanager
    def running(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        runtime = self._folder / "runtime"
        runtime.mkdir(mode=0o700)
        for name, value in (
            ("XDG_RUNTIME_DIR", runtime),
            ("XDG_DATA_HOME", self._folder / "data"),
            ("XDG_CONFIG_HOME", self._folder / "config"),
        ):
            monkeypatch.setenv(name, str(value))
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "TOKENFERRY_SEAL_KEY_FILE", "PYTHON_KEYRING_BACKEND"):
            monkeypatch.delenv(name, raising=False)
        arguments = [program("dbus-daemon"), "--session", "--nofork", "--nopidfile", "--print-address=1"]
        with (
            (self._folder / "bus.log").open("w") as log,
            subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True) as bus,
        ):
            try:
                assert bus.stdout is not None
                monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.stdout.readline().strip())
                self._log = log.fileno()
                self.unlock()
                yield
            finally:
                self._end_daemon()
                bus.kill()

    def unlock(self) -> None:
        """Have a daemon, in the place of one that is there, that was given the password at its start."""
        self._end_daemon()
        arguments = [self._program, "--foreground", "--unlock", "--components=secrets"]
        self._daemon = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log)
        assert self._daemon.stdin is not None
        self._daemon.stdin.write(PASSWORD.encode())
        self._daemon.stdin.close()
        eventually(self._is_open, "the keyring is open")

    def _end_daemon(self) -> None:
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def _is_open(self) -> bool:
        look = (
            "import contextlib, secretstorage, sys\n"
            "with contextlib.closing(secretstorage.dbus_init()) as bus:\n"
            "    sys.exit(secretstorage.Collection(bus).is_locked())"
        )
        return subprocess.run([sys.executable, "-c", look], capture_output=True, check=False).returncode == 0

    def lock(self) -> None:
        subprocess.run([sys.executable, "-c", LOCK], check=True)
        assert not self._is_open()


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    folder = tmp_path / "session"
    folder.mkdir()
    session = Session(folder)
    with session.running(monkeypatch):
        yield session


def test_the_key_is_in_the_secret_service_and_nowhere_in_the_home(session: Session, home: Home) -> None:
    assert tokenferry("account", "add", "work", stdin=KEY).code == 0
    outcome = tokenferry("encryption", "enable")
    assert outcome.code == 0, outcome
    assert "the system's keyring (Secret Service)" in outcome.out
    for path in home.path.rglob("*"):
        if path.is_file():
            assert not shows(path.read_bytes().decode("latin-1"), KEY, "tfs_")
    assert tokenferry("token", "work").out == f"{KEY}\n"
    assert tokenferry("doctor").code == 0
    assert tokenferry("encryption", "rotate-key", "--forget-key").code == 0
    assert tokenferry("token", "work").out == f"{KEY}\n"
    assert tokenferry("encryption", "disable", "--forget-key").code == 0
    assert KEY in (home.accounts / "work.json").read_text()


def test_a_locked_keyring_is_reported_at_once_and_nothing_is_sent_or_changed(
    session: Session, home: Home, sandbox: SandboxProcess, add_login: AddLogin, tell: Tell
) -> None:
    add_login("alice")
    assert tokenferry("encryption", "enable").code == 0
    session.lock()
    before = {path.name: path.read_bytes() for path in home.accounts.iterdir()}
    began = time.monotonic()
    for command in (
        ("token", "alice"),
        ("refresh", "alice"),
        ("encryption", "rotate-key"),
        ("login", "new", "--provider", "sandbox", "--no-browser"),
    ):
        outcome = tokenferry(*command)
        assert outcome.code == 6, outcome
        assert "the system's keyring is locked; unlock it, and try again" in outcome.err
    tell(f"four commands on a locked keyring: {time.monotonic() - began:.1f} s")
    (row,) = json.loads(tokenferry("account", "list", "--json").out)
    assert (row["state"], row["provider"]) == ("locked", "sandbox")
    assert tokenferry("account", "add", "new", stdin=KEY).code == 6
    assert {path.name: path.read_bytes() for path in home.accounts.iterdir()} == before
    assert list(home.journal.glob("*.attempt")) == []
    assert not sandbox.is_asked("/v1/oauth/token")
    session.unlock()
    assert tokenferry("token", "alice").code == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_goes_on_when_the_keyring_is_unlocked(
    session: Session, sandbox: SandboxProcess, add_login: AddLogin, tmp_path: Path, workers: str
) -> None:
    add_login("alice", expires_in=28_800)
    assert tokenferry("encryption", "enable").code == 0
    session.lock()
    with running("serve", tmp_path, "--workers", workers) as server:
        key = tokenferry("token", "--gateway").out.strip()

        def status() -> int:
            outcome = end(
                begin(
                    program("curl"),
                    *("-s", "-o", str(tmp_path / "body"), "-w", "%{http_code}"),
                    *("-H", f"x-api-key: {key}", "-H", "content-type: application/json"),
                    *("-H", "anthropic-version: 2023-06-01"),
                    *("-d", '{"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}'),
                    f"{server.url}/v1/messages",
                )
            )
            return int(outcome.out)

        assert status() == 503
        assert "keyring is locked; unlock it" in (tmp_path / "body").read_text()
        session.unlock()
        eventually(lambda: [status() for _ in range(6)] == [200] * 6, "every worker sees that the keyring is open")
        session.lock()
        assert status() == 200, "what was opened once stays in its memory"


def test_a_session_without_a_keyring_says_so_and_a_plaintext_one_is_refused(
    session: Session, home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert tokenferry("account", "add", "work", stdin=KEY).code == 0
    assert tokenferry("encryption", "enable").code == 0
    package = tmp_path / "library" / "keyrings" / "alt"
    package.mkdir(parents=True)
    (package / "file.py").write_text(
        "from keyring.backend import KeyringBackend\n"
        "class PlaintextKeyring(KeyringBackend):\n"
        "    priority = 9\n"
        "    def get_password(self, service, name): raise SystemExit(99)\n"
        "    set_password = delete_password = get_password\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "library"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
    outcome = tokenferry("token", "work")
    assert outcome.code == 6
    assert "keyrings.alt.file.PlaintextKeyring" in outcome.one_sentence()
    monkeypatch.delenv("PYTHON_KEYRING_BACKEND")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path / 'nowhere'}")
    outcome = tokenferry("token", "work")
    assert outcome.code == 6
    assert "keyring" in outcome.one_sentence()


# -- killed at every step, with a key file


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    path = tmp_path / "stick" / "key"
    monkeypatch.setenv("TOKENFERRY_SEAL_KEY_FILE", str(path))
    return path


def killed(command: str, last: int, log: Path) -> bool:
    """Run it until it dies before that step; tells whether it did."""
    log.unlink(missing_ok=True)
    outcome = end(begin(sys.executable, str(CHILDREN / "seal.py"), command, str(last), str(log)))
    is_done = "done" in log.read_text().splitlines()
    assert outcome.code == (0 if is_done else -signal.SIGKILL), outcome
    return not is_done


@pytest.mark.parametrize("command", ["seal", "rotate", "unseal"])
def test_a_kill_at_any_step_leaves_each_account_sealed_or_not_and_the_command_goes_on(  # noqa: PLR0917  # fixtures
    home: Home, key_file: Path, tmp_path: Path, tell: Tell, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for name in ("one", "two"):
        assert tokenferry("account", "add", name, stdin=f"{KEY}{name}").code == 0
    if command != "seal":
        assert tokenferry("encryption", "enable").code == 0
    keys = key_file.read_bytes() if key_file.exists() else None
    for last in count(1, 5):  # every fifth: tests/accounts/test_sealing.py has them all
        assert last < MANY
        copy = Home(tmp_path / f"home-{last}")
        shutil.copytree(home.path, copy.path)
        monkeypatch.setenv("TOKENFERRY_HOME", str(copy.path))
        key_file.unlink(missing_ok=True)
        if keys is not None:
            key_file.write_bytes(keys)
            key_file.chmod(0o600)
        is_killed = killed(command, last, tmp_path / "notes")
        for name in ("one", "two"):
            outcome = tokenferry("token", name)
            assert outcome.out == f"{KEY}{name}\n", (command, last, outcome)
        if not is_killed:
            break
        again = tokenferry(*(("encryption", "rotate-key") if command == "rotate" else (command,)))
        assert again.code == 0 or "nothing is sealed here" in again.err, (command, last, again)
        content = "".join(path.read_text() for path in copy.accounts.iterdir())
        assert bool(shows(content, KEY)) == (command == "unseal"), (command, last)
    tell(f"crash points of {command}: every fifth of {last - 1}")


def test_commands_race_with_sealing_and_none_is_the_worse_for_it(
    home: Home, key_file: Path, sandbox: SandboxProcess, add_login: AddLogin
) -> None:
    names = ["alice", "bob", "carol"]
    for name in names:
        add_login(name)
    processes = [begin(COMMAND, "token", name) for name in names * 2]
    sealing = begin(COMMAND, "encryption", "enable")
    added = begin(COMMAND, "account", "add", "late", stdin=KEY)
    assert end(sealing).code == 0
    rotating = begin(COMMAND, "encryption", "rotate-key", "--forget-key")
    processes += [begin(COMMAND, "refresh", name) for name in names]
    outcomes = [end(process) for process in [*processes, rotating, added]]
    assert [outcome.code for outcome in outcomes] == [0] * len(outcomes), outcomes
    assert tokenferry("encryption", "enable").code == 0
    state = json.loads(tokenferry("status", "--json").out)["sealing"]
    assert (state["state"], state["sealed"]) == ("on", [*names, "late"])
    for name in names:
        assert tokenferry("refresh", name).code == 0
        assert sandbox.counters(name)["reuses"] == 0
