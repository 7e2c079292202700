"""A grant in flight is finished, whatever the command is told meanwhile."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.harness import begin, end, eventually, tokenferry
from tokenferry.cli._signals import Ended, orderly, wait_for_input
from tokenferry.sandbox import Sandbox

Login = Callable[..., dict[str, Any]]

FINISHING = "tokenferry: finishing the refresh in flight…\n"


@pytest.mark.parametrize("command", ["token", "refresh"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_answer_is_waited_for_and_kept(
    sandbox: Sandbox, login: Login, command: str, number: signal.Signals
) -> None:
    login(expires_in=-60)
    sandbox.fault("hang", path="/v1/oauth/token", after_work=True)
    process = begin(command)
    eventually(lambda: sandbox.counters()["in_flight"])
    process.send_signal(number)
    assert process.stderr is not None
    said = process.stderr.readline()
    process.send_signal(number)  # the second one changes nothing
    sandbox.clear()
    outcome = end(process)
    assert (outcome.code, outcome.out, said + outcome.err) == (128 + number, "", FINISHING)
    after = tokenferry("token")
    assert after.code == 0
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1
    assert sandbox.counters()["totals"]["reuses"] == 0


def test_without_a_grant_in_flight_it_ends_at_once_and_without_a_word(sandbox: Sandbox) -> None:
    process = begin("sandbox", "--port", "0")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    outcome = end(process)
    assert (outcome.code, outcome.err) == (129, "")


def test_only_the_first_signal_raises_and_the_old_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with orderly():
        with pytest.raises(Ended) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_does_not_interrupt_the_wait_for_input_ends_it() -> None:
    """As one that comes just before the system call; here another thread takes it."""
    reading, writing = os.pipe()
    main = Path(f"/proc/self/task/{threading.get_native_id()}/stat")

    begun = threading.Event()

    def send() -> None:
        assert begun.wait(10)
        eventually(lambda: main.read_text().rpartition(")")[2].split()[0] == "S")
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def wait() -> None:
        begun.set()
        wait_for_input(reading)

    sender = threading.Thread(target=send)
    try:
        sender.start()
        with pytest.raises(Ended), orderly():
            wait()
    finally:
        sender.join(10)
        os.close(reading)
        os.close(writing)
    assert signal.set_wakeup_fd(-1) == -1


def test_input_is_waited_for_also_after_a_signal_that_changes_nothing() -> None:
    reading, writing = os.pipe()
    before = signal.signal(signal.SIGUSR1, lambda *_: os.write(writing, b"x"))
    try:
        assert not wait_for_input(reading, 0)
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert wait_for_input(reading)
        assert wait_for_input(reading, 0)
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(reading)
        os.close(writing)
