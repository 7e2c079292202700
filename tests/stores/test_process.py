import os
import subprocess
import sys

from msgspec.structs import replace

from tokenferry.stores import ProcessIdentity, _process


def test_a_process_that_runs_is_not_gone() -> None:
    own = ProcessIdentity.own()
    assert own == ProcessIdentity.own()
    assert own.pid == os.getpid()
    assert not own.is_gone()


def test_a_reused_pid_and_another_boot_are_not_taken_for_the_process() -> None:
    own = ProcessIdentity.own()
    assert replace(own, start="1").is_gone()
    assert replace(own, boot="another").is_gone()


def test_a_process_that_ended_is_gone() -> None:
    script = "from tokenferry.stores import ProcessIdentity as P; o = P.own(); print(o.pid, o.start, o.boot)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    pid, start, boot = done.stdout.split()
    assert ProcessIdentity(int(pid), start, boot).is_gone()


def test_a_zombie_is_gone_only_when_it_is_reaped() -> None:
    """It keeps its pid, and its lock it lost already: so no harm, only a wait."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    identity = ProcessIdentity(child.pid, _process._start(child.pid), ProcessIdentity.own().boot)
    assert not identity.is_gone()
    child.wait()
    assert identity.is_gone()
