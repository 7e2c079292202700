"""Runs the installed command in real processes, and waits for what they do."""

import codecs
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from deadline import deadline
from leaks import shows
from preforked import Preforked

Running: TypeAlias = "subprocess.Popen[str]"

COMMAND: Final = str(Path(sys.executable).with_name("tokenferry"))
PATIENCE: Final = 60.0

_begun: Final[list[Running]] = []


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def one_line(self) -> str:
        """The one sentence on stderr, behind the program's name and perhaps `error:`, with nothing on stdout."""
        assert self.out == ""
        assert self.err.startswith("tokenferry: ")
        assert self.err.count("\n") == 1
        assert "Traceback" not in self.err
        return self.err.removeprefix("tokenferry: ").removeprefix("error: ").rstrip("\n")

    def hides(self, *secrets: str) -> bool:
        return not shows(self.out + self.err, *secrets)


def tokenferry(*arguments: str, stdin: str = "", **variables: str) -> Outcome:
    """Run the command to its end."""
    with Preforked[bytes](
        [COMMAND, *arguments],
        env=os.environ | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            out, err = process.communicate(stdin.encode(), timeout=PATIENCE)
        finally:
            process.kill()
    return Outcome(process.returncode, out.decode(), err.decode())


def begin(*arguments: str, **variables: str) -> Running:
    """Start the command, and don't wait for it. One that still runs when its test has ended is killed."""
    process = Preforked[str](
        [COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    _begun.append(process)
    return process


def end_all() -> None:
    """Kill what a test that failed has left behind: its pipes would spoil the tests after it."""
    while _begun:
        process = _begun.pop()
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def begin_serving(tmp_path: Path, *arguments: str) -> tuple[Running, str]:
    """Start a gateway; give it with its address once it listens."""
    file = tmp_path / "port"
    process = begin("serve", "--port", "0", "--port-file", str(file), *arguments)
    eventually(lambda: file.exists() or process.poll() is not None)
    assert process.poll() is None, end(process)
    return process, f"http://127.0.0.1:{file.read_text().strip()}"


def end(process: Running) -> Outcome:
    out, err = process.communicate(timeout=PATIENCE)
    return Outcome(process.returncode, out, err)


def eventually(holds: Callable[[], object], what: Callable[[], str] = lambda: "it") -> None:
    """Wait until something holds that another process brings about; `what` tells of what never did."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"{what()} never came about"
        time.sleep(0.01)


def bundle(login: dict[str, Any]) -> str:
    """An OAuth login as it is piped into `account add`."""
    return json.dumps(login)


class Terminal:
    """The command in a terminal of its own: what it shows is read, and text is typed."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self._begin(Preforked, [COMMAND, *arguments], variables)

    @classmethod
    def of(cls, command: list[str]) -> "Terminal":
        """Another program in it, or the command without any preparation."""
        terminal = cls.__new__(cls)
        terminal._begin(subprocess.Popen, command, {}, start_new_session=False)
        return terminal

    def _begin(
        self,
        starter: type["subprocess.Popen[bytes]"],
        command: list[str],
        variables: dict[str, str],
        *,
        start_new_session: bool = True,
    ) -> None:
        self._master, slave = os.openpty()
        self.shown = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a read may end within a character
        self.process = starter(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=start_new_session,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "200"} | variables,
        )
        os.close(slave)

    def wait_for(self, text: str) -> None:
        while text not in self.shown:
            assert self._read(), f"it ended without showing {text!r}: {self.shown!r}"

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def hang_up(self) -> int:
        """Close the terminal; the exit code."""
        os.close(self._master)
        return self.process.wait(PATIENCE)

    def end(self) -> int:
        """Read until it closes the terminal; its exit code."""
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        try:
            with deadline(PATIENCE, lambda: self.shown):
                data = os.read(self._master, 65_536)
        except OSError:  # Linux's word for a terminal that nobody holds any more
            data = b""
        self.shown += self._decode(data)
        return bool(data)
