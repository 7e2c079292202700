"""Starts the installed command without the half second that an interpreter takes to import it.

A starter process imports everything once and forks for each command. What runs is a process of its own all the same,
with its own environment, standard streams, signals, locks and exit code, and can be killed. Only its parent is another
one, and /proc shows the starter's command line and first environment: a test that looks there uses `subprocess.Popen`.
"""

import atexit
import contextlib
import gc
import inspect
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, AnyStr, Final, NoReturn

_LARGEST: Final = 100_000
_NUMBER: Final = 4
_IGNORABLE: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_LATE: Final = ("PYTHON_KEYRING",)
_STARTING: Final = ("PYTHON", "LD_", "LC_", "LANG", "COV", "MALLOC")
"""Variables that count when an interpreter starts, by their beginning."""
_EXTRA: Final = "tokenferry.postgres"
"""The room that an extra brings to life; no command of a home of files imports it."""


class Starter:
    """The process that forks, once somebody needs it."""

    control: socket.socket | None = None
    environment: Mapping[str, str] = {}
    guard: Final = threading.Lock()

    @classmethod
    def get(cls) -> socket.socket:
        with cls.guard:
            if cls.control is None:
                cls.environment = _starting(os.environ)
                cls.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                number = theirs.fileno()
                command = [sys.executable, str(Path(__file__)), str(number)]
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=(number,)
                )
                theirs.close()
                atexit.register(cls._end, process)
            return cls.control

    @classmethod
    def _end(cls, process: "subprocess.Popen[bytes]") -> None:
        assert cls.control is not None
        cls.control.close()
        process.wait()


class Preforked(subprocess.Popen[AnyStr]):
    """`subprocess.Popen` of the installed command, where a fork will do; `args` begin with its path."""

    _status: socket.socket | None = None

    def _execute_child(self, *given: Any) -> None:
        wanted = inspect.signature(super()._execute_child).bind(*given).arguments  # type: ignore[misc]
        environment = os.environ if wanted["env"] is None else wanted["env"]
        control = Starter.get()
        request = {
            "arguments": list(wanted["args"]),
            "environment": dict(environment),
            "folder": os.fspath(wanted["cwd"] or os.getcwd()),  # noqa: PTH109  # as a string
            "umask": _umask(),
            "ignored": [number for number in _IGNORABLE if signal.getsignal(number) is signal.SIG_IGN],
            "session": wanted["start_new_session"],
        }
        message = json.dumps(request).encode("utf-8", "surrogateescape")
        if len(message) > _LARGEST or _starting(environment) != Starter.environment or _is_measured():
            super()._execute_child(*given)  # type: ignore[misc]
            return
        self._status, theirs = socket.socketpair()
        given_ends = (wanted["p2cread"], wanted["c2pwrite"], wanted["errwrite"])
        ends: list[int] = [ours if end == -1 else end for ours, end in enumerate(given_ends)]
        socket.send_fds(control, [message], [*ends, theirs.fileno()])
        theirs.close()
        self.pid = int.from_bytes(self._status.recv(_NUMBER, socket.MSG_WAITALL), sys.byteorder)
        assert self.pid, "the process that starts commands has failed; it says why on stderr"
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(wanted[name] for name in pipes))  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self._status is None:
            return super()._try_wait(flags)  # type: ignore[misc,no-any-return]
        try:
            told = self._status.recv(_NUMBER, socket.MSG_DONTWAIT if flags & os.WNOHANG else socket.MSG_WAITALL)
        except BlockingIOError:
            return 0, 0
        self._status.close()
        return self.pid, int.from_bytes(told, sys.byteorder)

    def _internal_poll(self, *given: Any, **named: Any) -> int | None:
        if self._status is None:
            return super()._internal_poll(*given, **named)  # type: ignore[misc,no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def _starting(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if name.startswith(_STARTING) and not name.startswith(_LATE)
    }


def _is_measured() -> bool:
    """Whether coverage is at work, which begins when an interpreter starts."""
    return any(name.startswith("COVERAGE_") for name in os.environ)


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


# -- in the starter


def _serve(control: socket.socket) -> None:
    """Fork for each request; returns in the children, with all set up for the command."""
    _import_everything()
    gc.collect()
    gc.freeze()
    ended, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, ended], [], [])
        if ended in ready:
            ended.recv(4096)
            _tell_of_the_ended(running)
        if control not in ready:
            continue
        message, given, _, _ = socket.recv_fds(control, 2 * _LARGEST, _NUMBER)
        if not message:
            os._exit(0)
        status = socket.socket(fileno=given.pop())
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for inherited in (control, ended, told, status, *running.values()):
                inherited.close()
            _become(json.loads(message), given)
            return
        status.send(pid.to_bytes(_NUMBER, sys.byteorder))
        running[pid] = status
        for one in given:
            os.close(one)


def _tell_of_the_ended(running: dict[int, socket.socket]) -> None:
    for pid in list(running):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            with running.pop(pid) as waiting, contextlib.suppress(OSError):  # nobody waits for it any more
                waiting.send(status.to_bytes(_NUMBER, sys.byteorder))


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Be what a new interpreter of this request would be."""
    if request["session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        first = getattr(sys, name)
        opened = open(  # noqa: SIM115  # it stays open
            number,
            "w" if number else "r",
            1 if number == 2 or os.isatty(number) else -1,
            encoding=first.encoding,
            errors=first.errors,
            closefd=False,
        )
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    os.umask(request["umask"])
    for ignored in request["ignored"]:
        signal.signal(ignored, signal.SIG_IGN)
    sys.argv = request["arguments"]
    time.tzset()
    tempfile.tempdir = None


def _import_everything() -> None:
    """What commands import, and read of what they are packaged with, sooner or later."""
    import tokenferry  # noqa: PLC0415  # only the starter needs it

    for module in pkgutil.walk_packages(tokenferry.__path__, "tokenferry."):
        if not module.name.endswith(("__main__", ".testing")) and not module.name.startswith(_EXTRA):
            import_module(module.name)
    for name in ("asyncio", "httpx2", "rich.console", "rich.table", "starlette", "uvicorn", "uvloop"):
        import_module(name)
    import_module("tokenferry.providers").builtin_providers()
    assert threading.active_count() == 1


def _end(code: object) -> NoReturn:
    """End as an interpreter does, but for taking apart what was imported, which would copy all of it first."""
    if not isinstance(code, int):
        code = int(code is not None)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    finally:
        os._exit(code)


if __name__ == "__main__":
    del sys.path[0]  # this folder, which the command's own script isn't in
    _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        sys.exit(import_module("tokenferry.cli.entry").main())
    except SystemExit as end:
        _end(end.code)
