"""A command that was forked is what a new process of it would be."""

import contextlib
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cli.harness import COMMAND, PATIENCE, eventually
from preforked import Preforked, Starter
from tokenferry.settings import Home

PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
FORK: Any = Preforked[bytes]
KINDS = pytest.mark.parametrize("start", [subprocess.Popen, FORK], ids=["new", "forked"])


def until_it_listens(process: "subprocess.Popen[bytes]", port_file: Path) -> None:
    eventually(lambda: port_file.exists() or process.poll() is not None)
    assert process.poll() is None


@KINDS
@pytest.mark.parametrize("arguments", [["--version"], ["nonsense"], ["account", "add", "work"], ["token"]])
def test_what_it_says_and_ends_with(start: Any, home: Home, arguments: list[str]) -> None:
    environment = os.environ | {"ANTHROPIC_API_KEY": "sk-ant-api03-one"}
    with start([COMMAND, *arguments], env=environment, **PIPES) as process:
        out, err = process.communicate(b"sk-ant-api03-" + b"k" * 60, PATIENCE)
    said = {
        "--version": (0, b"tokenferry ", b""),
        "nonsense": (2, b"", b"tokenferry: "),
        "account": (0, b"", b""),
        "token": (0, b"sk-ant-api03-one\n", b""),
    }[arguments[0]]
    assert process.returncode == said[0], err
    assert out.startswith(said[1])
    assert err.startswith(said[2])


@KINDS
def test_it_is_a_process_that_can_be_asked_signalled_and_killed(start: Any, home: Home, tmp_path: Path) -> None:
    for number, code in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        file = tmp_path / f"port-{number}"
        arguments = [COMMAND, "serve", "--port", "0", "--port-file", file.name]
        with start(arguments, cwd=tmp_path, **PIPES) as process:
            until_it_listens(process, file)
            assert process.pid != os.getpid()
            assert (Path(f"/proc/{process.pid}/cwd")).resolve() == tmp_path
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.01)
            process.send_signal(number)
            assert process.wait(PATIENCE) == code
            assert process.poll() == code


@KINDS
def test_a_variable_that_counts_when_an_interpreter_starts_counts(start: Any, home: Home) -> None:
    with start([COMMAND, "--version"], env=os.environ | {"PYTHONVERBOSE": "1"}, **PIPES) as process:
        _, err = process.communicate(b"", PATIENCE)
    assert b"import " in err


def descriptors(process: "subprocess.Popen[bytes]") -> tuple[tuple[str, int], ...]:
    """What is open, and how often; of a file once, for SQLite opens it for each thread that comes to need it."""
    found = Counter[str]()
    for one in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = one.readlink()
            name = target.suffix or target.name if target.is_absolute() else str(target).partition(":")[0]
            found[name] = 1 if target.is_absolute() else found[name] + 1
    return tuple(sorted(found.items()))


def test_no_descriptor_of_the_starter_is_left_in_it(tmp_path: Path) -> None:
    running: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        for number, start in enumerate((subprocess.Popen, FORK, FORK)):
            file = tmp_path / f"port-{number}"
            own = os.environ | {"TOKENFERRY_HOME": str(tmp_path / f"home-{number}")}
            process = start([COMMAND, "serve", "--port", "0", "--port-file", str(file)], env=own, **PIPES)
            running.append(stack.enter_context(process))
            stack.callback(process.kill)
            until_it_listens(process, file)
        # The port is written before all is open.
        eventually(lambda: len(set(map(descriptors, running))) == 1, lambda: f"{[*map(descriptors, running)]} as one")
    assert Starter.control is not None
