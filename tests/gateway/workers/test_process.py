import subprocess
import sys

import pytest


def outcome(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_memory_is_neither_dumped_nor_shown() -> None:
    program = (
        "import ctypes, resource, sys\n"
        "from tokenferry.gateway import hide_memory\n"
        "hide_memory()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0],"
        " ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == 'linux' else 0)\n"
    )
    assert outcome(program) == "0 0"


def test_a_process_that_hides_its_memory_still_knows_itself() -> None:
    program = (
        "import encodings.ascii, os\n"
        "from tokenferry.gateway import hide_memory\n"
        "from tokenferry.stores import ProcessIdentity\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "before = ProcessIdentity.own()\n"
        "hide_memory()\n"
        "print(ProcessIdentity.own() == before, len(os.listdir('/proc/self/fd')) > 2)\n"
    )
    if sys.platform != "linux":
        pytest.skip("there is no /proc here")
    assert outcome(program) == "True True"


def test_threads_share_one_heap() -> None:
    program = (
        "import threading\n"
        "from tokenferry.gateway import share_heap\n"
        "def size(): return int(open('/proc/self/statm').read().split()[0]) * 4096 >> 20\n"
        "threading.stack_size(256 * 1024)\n"
        "share_heap()\n"
        "before, go = size(), threading.Event()\n"
        "def allocate(): kept = bytes(50_000); go.wait()\n"
        "threads = [threading.Thread(target=allocate) for _ in range(4)]\n"
        "for one in threads: one.start()\n"
        "print(size() - before < 60); go.set()\n"
    )
    if sys.platform != "linux":
        pytest.skip("there is no /proc here")
    assert outcome(program) == "True", "each heap of glibc's takes up 64 MiB of addresses at least"


@pytest.mark.parametrize(("soft", "hard", "connections"), [(256, 512, 448), (64, 64, 16), (1024, 1024, 960)])
def test_as_many_files_are_allowed_as_may_be(soft: int, hard: int, connections: int) -> None:
    program = (
        "import resource\n"
        "from tokenferry.gateway import allow_connections, connection_limit\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "allow_connections()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE), connection_limit())\n"
    )
    assert outcome(program) == f"{hard} {hard} {connections}"


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
