"""`refresh --due` and `refresh --watch`: what a keeper does, told on stdout and stderr."""

import json
import signal
import threading
from dataclasses import asdict
from typing import Any, Final

from tokenferry.background import file_stamp
from tokenferry.broker import Broker
from tokenferry.cli._home import find, grants_end, open_broker
from tokenferry.cli._output import moment, note, redacted, say, say_json
from tokenferry.cli._signals import Ended
from tokenferry.errors import NeedsLogin, TokenferryError, TryLater
from tokenferry.keep import Keeper, RenewalEvent, keeper_of
from tokenferry.settings import Home

_LOOK: Final = 1.0
_MOMENT: Final = 0.5  # in which what is all but done ends by itself


def refresh_due(*, as_json: bool, switches: bool) -> int:
    """Do what is due now, and give the exit code."""
    home, broker = _opened()
    events: list[RenewalEvent] = []

    def tell(event: RenewalEvent) -> None:
        events.append(event)
        if not as_json:
            _say(event)

    if not Keeper(broker, tell=tell, swaps=switches).once():
        note(f"{keeper_of(home) or 'another process'} keeps the logins here, so nothing was done")
    if as_json:
        say_json([_to_json(event) for event in events])
    kinds = {event.kind for event in events if event.is_trouble}
    if "needs-login" in kinds:
        return NeedsLogin.exit_code
    return TryLater.exit_code if "failed" in kinds else int(bool(kinds))


def watch(*, as_json: bool, switches: bool) -> int:
    """Do what is due until a signal comes, and give the exit code. What changes in config.toml is followed."""
    home, broker = _opened()
    seen = file_stamp(home.config)
    running = _Running(broker, as_json=as_json, switches=switches)
    try:
        while not running.has_ended(_LOOK):
            if (stamp := file_stamp(home.config)) != seen:
                seen = stamp
                if (new := _reopen()) is not None:
                    running.end()
                    running = _Running(new, as_json=as_json, switches=switches)
    except Ended as ended:
        running.keeper.stop()
        if not grants_end(_MOMENT):
            note("finishing the refresh in flight…")
        return ended.exit_code if ended.exit_code == 128 + signal.SIGINT else 0
    return running.raise_fault()


class _Running:
    """A keeper on a thread of its own: the main thread is told of signals, and must not be in the middle of a file."""

    def __init__(self, broker: Broker, *, as_json: bool, switches: bool) -> None:
        self.keeper = Keeper(broker, tell=_say_json_line if as_json else _say, swaps=switches)
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tokenferry-keeper", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.keeper.run()
        except BaseException as fault:  # noqa: BLE001  # it is raised on the main thread
            self._fault = fault

    def has_ended(self, seconds: float) -> bool:
        """Wait so long for its end."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def end(self) -> None:
        self.keeper.stop()
        self._thread.join()

    def raise_fault(self) -> int:
        if self._fault is not None:
            raise self._fault
        return 0


def _opened() -> tuple[Home, Broker]:
    home, settings = find()
    for warning in settings.warnings:
        note(warning)
    return home, open_broker(home, settings)


def _reopen() -> Broker | None:
    """A broker by the configuration as it is now; None, and a word about it, if that can't be used."""
    try:
        return open_broker(*find())
    except TokenferryError as fault:
        note(f"the configuration was changed and is not followed: {fault}")
        return None


def _say(event: RenewalEvent) -> None:
    """What went well to stdout, what did not to stderr."""
    line = f"{moment(event.at)}  {redacted(event.text)}"
    if event.is_trouble:
        note(line)
    else:
        say(line)


def _say_json_line(event: RenewalEvent) -> None:
    say(redacted(json.dumps(_to_json(event))))


def _to_json(event: RenewalEvent) -> dict[str, Any]:
    return {key: value for key, value in asdict(event).items() if value is not None}
