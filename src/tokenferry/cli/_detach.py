"""`serve --detach`: run the command as a process that outlives this one and its terminal."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from tokenferry.cli._output import note, say
from tokenferry.errors import StorageFailed
from tokenferry.service import own_command
from tokenferry.settings import Home
from tokenferry.stores import make_private_folder, reason_of

_LOOK: Final = 0.02
_LISTENING: Final = "listening on "
_READY: Final = "client key in "  # begins the line after the last address
_WAITING: Final = "not ready, and trying again until the database is there"
_MOST_BYTES: Final = 64 * 1024


def begin_detached(context: Any, home: Home) -> int:
    """Start `serve` with the options of `context`, wait until it listens, and give the exit code.

    A gateway that waits for its database counts as listening, and goes on by itself. Its output goes to serve.log in
    the home. Raises `StorageFailed` if that file can't be written.
    """
    make_private_folder(home.path)
    path = home.path / "serve.log"
    try:
        log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise StorageFailed(f"{path} can't be written: {reason_of(fault)}") from None
    try:
        start = os.fstat(log).st_size
        process = subprocess.Popen(  # noqa: S603  # this program again
            [*own_command(), *_words(context)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        return _wait(process, log, start, path)
    finally:
        os.close(log)


def _words(context: Any) -> list[str]:
    """The command line without `--detach`. The environment carries `--home` and `--config`."""
    words = ["--verbose"] if context.parent is not None and context.parent.params.get("verbose") else []
    words.append("serve")
    for parameter in context.command.params:
        value = context.params.get(parameter.name)
        if parameter.name != "detach" and value is not None and value is not False:  # 0 is a port
            words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return words


def _wait(process: "subprocess.Popen[bytes]", log: int, start: int, path: Path) -> int:
    while (code := process.poll()) is None:
        lines = _said(log, start)
        is_waiting = any(_WAITING in line for line in lines)
        if is_waiting:
            note("the gateway answers 503 until its database is available; see: tokenferry store status")
        if is_waiting or any(line.startswith(_READY) for line in lines):
            for line in lines:
                if line.startswith(_LISTENING):
                    say(line)
            say(f"process {process.pid} logs to {path}; stop it with: tokenferry stop")
            process.returncode = 0  # no warning that it still runs
            return 0
        time.sleep(_LOOK)
    said = _said(log, start)
    sys.stderr.write("".join(f"{line}\n" for line in said))
    if not said:
        note(f"the gateway failed to start (exit code {code}); see {path}")
    return code or 1


def _said(log: int, start: int) -> list[str]:
    return os.pread(log, _MOST_BYTES, start).decode(errors="replace").splitlines()
