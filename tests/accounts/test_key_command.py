"""A key that a command prints: run once for all who wait, kept for a while, and never shown."""

import os
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tokenferry.accounts._key_command import KeyCommand, KeyCommandSettings, run
from tokenferry.accounts._key_sources import key_sources, key_sources_of
from tokenferry.credentials import ApiKey
from tokenferry.errors import KeyCommandFailed
from tokenferry.providers import Provider
from tokenferry.secret import HiddenBytes, Secret
from tokenferry.settings import AccountSettings

KEY = "sk-vault-0123456789abcdef"


class Runs:
    """Stands in for the program: what each run prints, and how often it ran."""

    def __init__(self) -> None:
        self.results: list[tuple[int | None, bytes] | OSError] = [(0, f"{KEY}\n".encode())]
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, argv: Sequence[str], timeout: float) -> tuple[int | None, HiddenBytes]:
        assert (argv, timeout) == (("vault", "read"), 30.0)
        self.gate.wait(10)
        self.count += 1
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, OSError):
            raise result
        return result[0], HiddenBytes(result[1])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    stand_in = Runs()
    monkeypatch.setattr("tokenferry.accounts._key_command.run", stand_in)
    return stand_in


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def command(runs: Runs, clock: Clock) -> KeyCommand:
    return KeyCommand(KeyCommandSettings("vaulted", "openai", ("vault", "read"), 300.0), clock)


def key_of(command: KeyCommand) -> str:
    credential = command.document().credential
    assert isinstance(credential, ApiKey)
    return credential.secret.reveal()


def test_a_key_is_kept_as_long_as_the_settings_say(command: KeyCommand, runs: Runs, clock: Clock) -> None:
    document = command.document()
    assert (document.account.name, document.account.provider, document.account.store) == (
        "vaulted",
        "openai",
        "command",
    )
    assert isinstance(document.credential, ApiKey)
    assert document.credential.until == 1300.0
    assert key_of(command) == KEY
    assert runs.count == 1
    clock.now += 300
    runs.results = [(0, b"sk-other-0123456789abcdef")]
    assert key_of(command) == "sk-other-0123456789abcdef"
    assert runs.count == 2


def test_all_who_ask_wait_for_one_run(command: KeyCommand, runs: Runs) -> None:
    runs.gate.clear()
    first, second = command.pending(), command.pending()
    assert first is second is not None
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(key_of(command))) for _ in range(8)]
    for thread in threads:
        thread.start()
    runs.gate.set()
    for thread in threads:
        thread.join()
    assert (found, runs.count) == ([KEY] * 8, 1)


def test_a_refused_key_is_asked_for_again_and_no_other(command: KeyCommand, runs: Runs) -> None:
    assert key_of(command) == KEY
    runs.results = [(0, b"sk-new-0123456789abcdef")]
    assert command.pending(Secret("sk-of-another-one")) is None
    assert command.pending(Secret(KEY)) is not None
    assert key_of(command) == "sk-new-0123456789abcdef"
    assert command.pending(Secret(KEY)) is None


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ((1, b"not signed in"), "failed with exit code 1; run it in a terminal"),
        ((-9, b""), "failed with exit code -9"),
        ((None, b""), "did not end within 30 s"),
        ((0, b"\n"), "printed no usable key"),
        ((0, b"two words"), "printed no usable key"),
        ((0, b'KEY="sk-1"'), "printed no usable key"),
        ((0, b"x" * 65_537), "printed more than a key"),
        (FileNotFoundError(2, "No such file or directory"), "can't be run: No such file"),
    ],
)
def test_a_failure_is_one_sentence_and_is_cached_for_a_while(
    command: KeyCommand, runs: Runs, clock: Clock, result: Any, words: str
) -> None:
    runs.results = [result]
    for _ in range(2):
        with pytest.raises(KeyCommandFailed, match="account 'vaulted': its command vault") as caught:
            command.document()
        assert words in str(caught.value)
        assert "not signed in" not in str(caught.value)
        assert caught.value.retry_after == 30.0
    assert runs.count == 1
    clock.now += 30
    runs.results = [(0, KEY.encode())]
    assert key_of(command) == KEY


def test_neither_a_repr_nor_a_traceback_shows_what_it_printed(command: KeyCommand, runs: Runs, clock: Clock) -> None:
    runs.results = [(0, f'"{KEY}"'.encode())]
    with pytest.raises(KeyCommandFailed) as caught:
        command.document()
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    clock.now += 30
    runs.results = [(0, KEY.encode())]
    assert KEY not in shown + repr(command) + repr(command.document()) + repr(vars(command))


def test_what_stays_the_same_is_kept_over_a_reload(command: KeyCommand, runs: Runs, clock: Clock) -> None:
    key_of(command)
    changed = KeyCommandSettings("vaulted", "openai", ("vault", "read"), 60.0)
    same = KeyCommandSettings("vaulted", "openai", ("vault", "read"), 300.0)
    assert key_sources([same], {"vaulted": command}, clock)["vaulted"] is command
    assert key_sources([changed], {"vaulted": command}, clock)["vaulted"] is not command


def test_a_provider_and_an_account_may_name_a_command() -> None:
    provider = Provider("openai", "openai", "https://x.example", command=("a",), command_ttl=5.0)
    accounts = {
        "two": AccountSettings(provider="anthropic", command=("b", "c")),
        "capped": AccountSettings(requests_per_minute=5),
    }
    assert key_sources_of([provider, Provider("other", "other", "https://x.example")], accounts) == [
        KeyCommandSettings("openai", "openai", ("a",), 5.0),
        KeyCommandSettings("two", "anthropic", ("b", "c"), 300.0),
    ]


# -- the run itself


def test_a_program_is_run_without_a_shell_input_or_terminal() -> None:
    code, output = run(["printf", "%s", "$HOME; `id` *"], 10)
    assert (code, bytes(output)) == (0, b"$HOME; `id` *")
    code, output = run(["sh", "-c", "cat; (: < /dev/tty) && echo terminal; exit 3"], 10)
    assert (code, bytes(output)) == (3, b"")


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code, _ = run(["sh", "-c", f"sleep 600 & echo $! > {told}; wait"], 0.3)
    assert code is None
    child = int(told.read_text())
    for _ in range(1000):
        stat = Path(f"/proc/{child}/stat")
        if not stat.exists() or " Z " in stat.read_text():
            break
        os.sched_yield()
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child lives")


def test_one_that_prints_without_end_is_ended(tmp_path: Path) -> None:
    code, output = run(["yes"], 10)
    assert code not in {0, None}
    assert len(output) == 64 * 1024 + 1


def test_a_child_in_another_session_that_keeps_the_output_open_is_not_waited_for(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    leave = f"setsid sleep 60 & echo $! >> {told}; "
    begun = time.monotonic()
    try:
        assert run(["sh", "-c", leave + "echo key"], 30) == (0, b"key\n")
        code, _ = run(["sh", "-c", leave + "sleep 60"], 0.3)
        assert code is None
        assert time.monotonic() - begun < 20
    finally:
        for child in told.read_text().split():
            os.kill(int(child), signal.SIGKILL)
