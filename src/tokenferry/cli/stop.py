import os
import select
import signal
import time
from pathlib import Path
from typing import Final

from tokenferry.cli._output import note, say, say_json
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.errors import TryLater
from tokenferry.settings import Home
from tokenferry.state import GatewayRecord, gateway_records

app = new_app()

_LOOK: Final = 0.05
_LOCKS: Final = Path("/proc/locks")


@app.command("stop", epilog=examples("tokenferry stop", "tokenferry stop && tokenferry serve --detach"))
def stop(*, as_json: JSON = False) -> None:
    """Stop the gateway after its requests have finished, and wait for its end.

    Stops every running gateway of this home. [server] drain_timeout limits how long requests may take.
    """
    running = [record for record in gateway_records(Home.from_environment()) if record.is_running]
    for record in running:
        _end(record)
        if not as_json:
            say(f"stopped the gateway at {record}")
    if as_json:
        say_json([{"url": one.url, "socket": one.socket and str(one.socket), "pid": one.pid} for one in running])
    elif not running:
        note("no gateway of this home runs")


def _end(record: GatewayRecord) -> None:
    """Ask the process that holds the record to end, and wait for it. Raises `TryLater` if it can't be found."""
    pid = record.pid
    try:
        # If the gateway has ended, another process may have its number; a pidfd rules that out from here on.
        handle = None if pid is None or not hasattr(os, "pidfd_open") else os.pidfd_open(pid)
    except OSError:
        pid = handle = None
    try:
        if pid is None or not _holds(pid, record.path):
            if not record.path.exists():
                return  # it has just ended
            raise TryLater(
                f"the gateway at {record} runs where its process can't be reached from here, as in another container; "
                "stop it there"
            )
        if handle is None:
            os.kill(pid, signal.SIGTERM)
            _wait(pid)
        else:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            select.select([handle], [], [])
    except ProcessLookupError:
        pass  # it has just ended
    finally:
        if handle is not None:
            os.close(handle)


def _holds(pid: int, path: Path) -> bool:
    """Whether the process holds the record's lock, if the system shows the holders of locks."""
    try:
        locks, number = _LOCKS.read_text(encoding="ascii"), path.stat().st_ino
    except OSError:
        return path.exists()
    return any(f" {pid} " in line and f":{number} " in line for line in locks.splitlines())


def _wait(pid: int) -> None:
    while True:
        os.kill(pid, 0)
        time.sleep(_LOOK)
