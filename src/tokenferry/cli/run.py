import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Annotated, Final, Self

import typer

from tokenferry.cli._complete import account_names
from tokenferry.cli._home import find, open_broker, tell_pin
from tokenferry.cli._output import note
from tokenferry.cli._readiness import limits, readiness
from tokenferry.cli._typer import SETTINGS, examples, new_app
from tokenferry.clients import client_environment, started
from tokenferry.errors import UsageError
from tokenferry.serve import PrivateGateway

app = new_app()

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126


@app.command(
    "run",
    context_settings={**SETTINGS, "ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=examples(
        "tokenferry run -- claude",
        "tokenferry run -- codex -m claude-sonnet-4-5",
        "tokenferry run --account work -- python script.py",
    ),
)
def run(
    command: Annotated[list[str] | None, typer.Argument(metavar="CMD", help="The program and its arguments.")] = None,
    *,
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="NAME", help="Use only this account.", autocompletion=account_names),
    ] = None,
) -> int:
    """Run a program with a private gateway, which ends with it.

    The program gets the gateway's address in ANTHROPIC_BASE_URL and OPENAI_BASE_URL, and a key of its own in
    ANTHROPIC_AUTH_TOKEN and OPENAI_API_KEY. Codex gets them as arguments. Other credentials are removed from its
    environment: no program gets a login or a setup token. If the only login is Claude Code's own and the policy
    reserves it, the program starts without a gateway, in its unchanged environment.

    The exit code is the program's (128 + n if signal n ended it), or 127 if there is no such program. If it does not
    start: 3 configuration, 4 no account, 5 login needed, 7 policy.
    """
    if not command:
        raise UsageError("name the program to run: tokenferry run -- CMD...")
    home, config = find()
    broker = open_broker(home, config)
    account = tell_pin(account)
    ready = readiness(broker, config, account)
    with _Child() as child, contextlib.ExitStack() as stack:
        if ready.is_claude_codes:
            note("the login is Claude Code's own, so the program starts without a gateway, its environment unchanged")
            return child.run(command, dict(os.environ))
        ready.check()
        for line in limits(home, broker, ready.ready):
            note(f"limited: {line}")
        with _signals_for_this_thread():
            gateway = stack.enter_context(PrivateGateway(home, config, account=account, broker=broker))
        environment = client_environment(os.environ, gateway.url, gateway.key.reveal())
        return child.run(started(command, gateway.url), environment)


class _Child:
    """A process that gets our signals: it is sent TERM and HUP; the terminal sends it INT itself."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pending: list[int] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(_handling(self._pass_on))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, command: list[str], environment: dict[str, str]) -> int:
        try:
            process = subprocess.Popen(command, env=environment)  # noqa: S603  # the user's own command
        except (FileNotFoundError, NotADirectoryError):
            note(f"{command[0]!r} not found; check its name and PATH")
            return _NOT_FOUND
        except OSError as fault:
            note(f"{command[0]!r} can't be run: {fault.strerror}")
            return _NOT_EXECUTABLE
        self._process = process
        for number in self._pending:
            process.send_signal(number)
        code = process.wait()
        return 128 - code if code < 0 else code

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            return
        if self._process is None:
            self._pending.append(number)
        else:
            self._process.send_signal(number)


@contextlib.contextmanager
def _signals_for_this_thread() -> Iterator[None]:
    """Block our signals in threads started in the block: a signal that such a thread takes doesn't wake this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    for number in _NUMBERS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number in _NUMBERS:
            signal.signal(number, before[number])
