"""`status --watch`: the state of the home on a terminal, in a pipe, or as lines of JSON."""

import contextlib
import json
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from tokenferry.cli._home import find, open_broker
from tokenferry.cli._output import redacted, say
from tokenferry.cli._services import services_now
from tokenferry.cli._signals import wait_for_input
from tokenferry.readiness import account_rows
from tokenferry.views import LedgerReader, NowView, now_view

_EVERY: Final = 2.0


def watch_status(*, as_json: bool, every: float = _EVERY) -> None:
    """Show the view until `q` or a signal. A pipe and JSON get it whenever it has changed."""
    home, config = find()
    broker, books = open_broker(home, config), LedgerReader(home)

    def look() -> NowView:
        states = {row.name: row.state for row in account_rows(broker)}
        return now_view(home, broker, books, services_now(home, config, broker, states), now=time.time())

    with contextlib.closing(books):
        if as_json:
            _follow(look, _say_json, every)
        elif not sys.stdout.isatty():
            _follow(look, _print, every)
        else:
            _show(look, every)


def _follow(look: Callable[[], NowView], tell: Callable[[NowView], None], every: float) -> None:
    """Pass the view to `tell` now and after each change, until stdout has no reader."""
    shown: dict[str, Any] = {}
    while True:
        view = look()
        if (new := _facts(view)) != shown:
            shown = new
            tell(view)
        if _reader_leaves(every):
            return


def _facts(view: NowView) -> dict[str, Any]:
    """The parts of the view that change for other reasons than the passing of time."""
    found = view.to_json()
    return found | {"at": 0, "sentence": "", "accounts": [one | {"text": ""} for one in found["accounts"]]}


def _reader_leaves(seconds: float) -> bool:
    """Wait for `seconds`; return True as soon as stdout has no reader."""
    waiting = select.poll()
    waiting.register(sys.stdout.fileno(), 0)  # poll(2) always reports errors
    return any(events & select.POLLERR for _, events in waiting.poll(seconds * 1000))


def _say_json(view: NowView) -> None:
    say(redacted(json.dumps(view.to_json())))


def _print(view: NowView) -> None:
    from tokenferry.cli._screen import print_view  # noqa: PLC0415  # rich takes 60 ms

    print_view(view)


def _show(look: Callable[[], NowView], every: float) -> None:
    from tokenferry.cli._screen import screen  # noqa: PLC0415  # as above

    with _keys() as is_over, screen() as show:
        while True:
            show(look())
            if is_over(every):
                return


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """A function that waits for a number of seconds, and returns True as soon as `q` is pressed."""
    if not sys.stdin.isatty():
        yield _wait
        return
    import termios  # noqa: PLC0415  # POSIX only
    import tty  # noqa: PLC0415  # as above

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield lambda seconds: wait_for_input(descriptor, seconds) and sys.stdin.read(1) in {"q", "Q", ""}
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
