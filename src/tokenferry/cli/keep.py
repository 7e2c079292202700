import json
import signal
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tokenferry.background import file_stamp
from tokenferry.broker import Broker
from tokenferry.cli._home import find, grants_end, open_broker
from tokenferry.cli._output import moment, note, redacted, say, say_json
from tokenferry.cli._signals import Ended
from tokenferry.cli._typer import examples, new_app
from tokenferry.config import load
from tokenferry.errors import NeedsLogin, TokenferryError, TryLater
from tokenferry.keep import Keeper, RenewalEvent, keeper_of
from tokenferry.settings import Home

app = new_app()

_LOOK: Final = 1.0
_MOMENT: Final = 0.5  # in which what is all but done ends by itself


@app.command(
    "keep",
    epilog=examples(
        "tokenferry keep",
        "tokenferry keep --once                  for a timetable: every 5 minutes",
        "tokenferry keep --swap                  and give Claude Code another account when it is limited",
        "tokenferry keep --json | jq -r .text",
        "tokenferry service install              run it for good",
    ),
)
def keep(
    *,
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, and end.")] = False,
    swap: Annotated[
        bool, typer.Option("--swap", help="Give Claude Code the next account when the one it has is limited.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: an object a line; with --once a list of them.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="F", help="Read this instead of the home's config.toml.")
    ] = None,
) -> int:
    """Keep logins alive that nobody asks for, until it is told to end.

    Published accounts are renewed 10 minutes before their token expires, idle logins before their refresh token
    lapses; profiles that were left behind are rewritten. With --swap, which needs subscription = "own" under [policy],
    Claude Code's account is swapped when it is on record as limited. One keeper of a home is at work, `tokenferry
    serve` is one, too; others wait for its end. TERM and HUP end it with exit code 0. A refresh in flight is waited
    for.
    """
    home, settings = find(config)
    for warning in settings.warnings:
        note(warning)
    broker = open_broker(home, settings)
    if once:
        return _once(broker, home, as_json=as_json, swap=swap)
    return _keep(broker, home, config, as_json=as_json, swap=swap)


def _once(broker: Broker, home: Home, *, as_json: bool, swap: bool) -> int:
    events: list[RenewalEvent] = []

    def tell(event: RenewalEvent) -> None:
        events.append(event)
        if not as_json:
            _say(event)

    if not Keeper(broker, tell=tell, swaps=swap).once():
        note(f"{keeper_of(home) or 'another process'} keeps the logins here, so nothing was done")
    if as_json:
        say_json([_to_json(event) for event in events])
    kinds = {event.kind for event in events if event.is_trouble}
    if "needs-login" in kinds:
        return NeedsLogin.exit_code
    return TryLater.exit_code if "failed" in kinds else int(bool(kinds))


def _keep(broker: Broker, home: Home, config: Path | None, *, as_json: bool, swap: bool) -> int:
    path = config or home.config
    seen = file_stamp(path)
    running = _Running(broker, as_json=as_json, swap=swap)
    try:
        while not running.has_ended(_LOOK):
            if (stamp := file_stamp(path)) != seen:
                seen = stamp
                if (new := _reopen(home, config)) is not None:
                    running.end()
                    running = _Running(new, as_json=as_json, swap=swap)
    except Ended as ended:
        running.keeper.stop()
        if not grants_end(_MOMENT):
            note("finishing the refresh in flight…")
        return ended.exit_code if ended.exit_code == 128 + signal.SIGINT else 0
    return running.raise_fault()


class _Running:
    """A keeper on a thread of its own: the main thread is told of signals, and must not be in the middle of a file."""

    def __init__(self, broker: Broker, *, as_json: bool, swap: bool) -> None:
        self.keeper = Keeper(broker, tell=_say_json_line if as_json else _say, swaps=swap)
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


def _reopen(home: Home, config: Path | None) -> Broker | None:
    """A broker by the configuration as it is now; None, and a word about it, if that can't be used."""
    try:
        return open_broker(home, load(config or home.config, required=config is not None, statement=home.statement))
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
