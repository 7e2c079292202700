"""`status --watch` follows what changes: as lines of JSON, as text in a pipe, and on a terminal until q."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Any

from cli.documents import document, put
from cli.harness import COMMAND, PATIENCE, begin, end
from deadline import deadline
from ledger.books import PRICES, entry
from tokenferry.broker import Broker
from tokenferry.cli._screen import print_view
from tokenferry.ledger import Ledger, WindowPoint
from tokenferry.settings import Home
from tokenferry.views import LedgerReader, now_view

Inside = Callable[..., Any]


def test_each_change_is_a_line_of_json_until_the_reader_leaves(home: Home) -> None:
    put(home, document(time.time()))
    process = begin("status", "--watch", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert [one["name"] for one in first["accounts"]] == ["work"]
    assert first["sentence"] == "No gateway runs. 1 of 1 account usable."
    put(home, document(time.time(), name="spare"), "spare")
    second = json.loads(process.stdout.readline())
    assert {one["name"] for one in second["accounts"]} == {"work", "spare"}
    process.stdout.close()
    assert process.wait(PATIENCE) == 0


def test_in_a_pipe_it_is_plain_text_and_an_interrupt_ends_it(home: Home) -> None:
    put(home, document(time.time()))
    process = begin("status", "--watch")
    assert process.stdout is not None
    assert process.stdout.readline() == "No gateway runs. 1 of 1 account usable.\n"
    process.send_signal(signal.SIGINT)
    outcome = end(process)
    assert outcome.code == 130
    assert "\x1b" not in outcome.out
    assert outcome.err == ""


def test_q_ends_it_on_a_terminal_and_leaves_that_as_it_was(home: Home) -> None:
    put(home, document(time.time()))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [COMMAND, "status", "--watch"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"TERM": "xterm"},
    )
    seen = b""
    with deadline(PATIENCE):
        while b"q ends this" not in seen:
            seen += os.read(master, 65536)
    os.write(master, b"q")
    assert process.wait(PATIENCE) == 0
    assert termios.tcgetattr(slave) == before
    assert b"1 of 1 account usable" in seen
    for descriptor in (master, slave):
        os.close(descriptor)


def test_what_a_name_holds_is_no_command_to_the_terminal(home: Home, capsys: Any) -> None:
    now = time.time()
    with Ledger(home.ledger) as ledger:
        odd = entry(1, at=now - 5, account="a\x1b[31m[bold]", error="overloaded_error", status=529)
        ledger.write([odd], PRICES, [WindowPoint("a\x1b[31m[bold]", "5h", now - 5, 0.97, now + 500)])
    view = now_view(home, Broker.from_home(home), LedgerReader(home), [], now=now)
    print_view(view)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("a\\x1b[31m[bold]") == 2
    assert "overloaded_error" in out
    assert "97%" in out
