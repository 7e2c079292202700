"""A grant in flight is finished, whatever the command is told meanwhile."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from cli.harness import begin, end, eventually, tokenferry
from tokenferry.cli._signals import Ended, orderly
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
