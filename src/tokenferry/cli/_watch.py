"""`refresh --due` and `refresh --watch`: a renewer with its events on stdout and stderr."""

import json
import signal
from typing import Any, Final

from msgspec.structs import asdict

from tokenferry.background import file_stamp
from tokenferry.background_refresh import RenewalEvent, Renewer, renewer_of
from tokenferry.broker import Broker
from tokenferry.cli._home import find, grants_end, open_broker
from tokenferry.cli._output import note, redacted, say, say_json
from tokenferry.cli._signals import Ended
from tokenferry.errors import NeedsLogin, TokenferryError, TryLater
from tokenferry.settings import Home
from tokenferry.units import moment

_LOOK: Final = 1.0
_MOMENT: Final = 0.5  # seconds for a refresh that is all but done


def refresh_due(*, as_json: bool, switches: bool) -> int:
    """Refresh what is due now, and give the exit code."""
    home, broker = _opened()
    events: list[RenewalEvent] = []

    def tell(event: RenewalEvent) -> None:
        events.append(event)
        if not as_json:
            _say(event)

    if not Renewer(broker, tell=tell, swaps=switches).once():
        note(f"{renewer_of(home) or 'another process'} refreshes the logins here, so nothing was done")
    if as_json:
        say_json([_to_json(event) for event in events])
    kinds = {event.kind for event in events if event.is_trouble}
    if "needs-login" in kinds:
        return NeedsLogin.exit_code
    return TryLater.exit_code if "failed" in kinds else int(bool(kinds))


def watch(*, as_json: bool, switches: bool) -> int:
    """Refresh what is due until a signal comes, and give the exit code. Follows changes of config.toml."""
    home, broker = _opened()
    seen, following = file_stamp(home.config), True
    try:
        while following:
            # A thread of its own: the main thread gets the signals, and must not be in the middle of a write.
            with Renewer(broker, tell=_say_json_line if as_json else _say, swaps=switches).in_background() as renewer:
                while following := not renewer.has_ended(_LOOK):
                    if (stamp := file_stamp(home.config)) != seen:
                        seen = stamp
                        if (new := _reopen()) is not None:
                            broker = new
                            break
    except Ended as ended:
        if not grants_end(_MOMENT):
            note("finishing the refresh in flight…")
        return ended.exit_code if ended.exit_code == 128 + signal.SIGINT else 0
    if renewer.fault is not None:
        raise renewer.fault
    return 0


def _opened() -> tuple[Home, Broker]:
    home, settings = find()
    for warning in settings.warnings:
        note(warning)
    return home, open_broker(home, settings)


def _reopen() -> Broker | None:
    """A broker with the present configuration; None, and a note, if that is unusable."""
    try:
        return open_broker(*find())
    except TokenferryError as fault:
        note(f"the changed configuration is not used: {fault}")
        return None


def _say(event: RenewalEvent) -> None:
    """Print successes to stdout, failures to stderr."""
    line = f"{moment(event.at)}  {redacted(event.text)}"
    if event.is_trouble:
        note(line)
    else:
        say(line)


def _say_json_line(event: RenewalEvent) -> None:
    say(redacted(json.dumps(_to_json(event))))


def _to_json(event: RenewalEvent) -> dict[str, Any]:
    return {key: value for key, value in asdict(event).items() if value is not None}
