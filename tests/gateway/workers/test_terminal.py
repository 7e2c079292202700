import subprocess
import sys

ALONE = """
import os
from tokenferry.gateway import Terminal
if os.fork() == 0:
    os.setsid()
    print(Terminal().is_gone())
else:
    os.wait()
"""
CLOSED = """
import os, pty, signal
from tokenferry.gateway import Terminal
reader, writer = os.pipe()
pid, terminal = pty.fork()
if pid == 0:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mine = Terminal()
    os.write(writer, b"%d" % mine.is_gone())
    while not mine.is_gone():
        os.sched_yield()
    os.write(writer, b"%d" % mine.is_gone())
else:
    before = os.read(reader, 1)
    os.close(terminal)
    print(before, os.read(reader, 1))
    os.wait()
"""


def said(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_a_process_without_a_terminal_has_lost_none() -> None:
    assert said(ALONE) == "False\n"


def test_a_terminal_that_is_closed_is_gone() -> None:
    assert said(CLOSED) == "b'0' b'1'\n"
