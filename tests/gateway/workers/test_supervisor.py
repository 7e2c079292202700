"""Workers without a gateway: each says who it is in a pipe, and does what the test says."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenferry.gateway.workers.supervisor import WorkerSlot

# A worker that ends by itself gives the number of a file's bytes as its exit code, if the file is there.
PROGRAM = """
import asyncio, json, os, pathlib, signal, sys, time
from tokenferry.errors import TokenferryError
from tokenferry.gateway import ReloadHooks, Supervisor

def show(**fields):
    os.write(1, json.dumps(fields).encode() + b"\\n")

def work(place):
    told = []
    {hangup}
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: told.append(number))
    {before}
    asyncio.run(place.begin())
    show(worker=place.number, pid=os.getpid())
    os.set_blocking(place.lifeline, False)
    while len(told) < {terms}:
        try:
            if os.read(place.lifeline, 1) == b"":
                show(orphan=place.number)
                return 0
        except BlockingIOError:
            pass
        time.sleep(0.01)
    show(told=place.number)
    return 0

supervisor = Supervisor(
    2, work, ready=lambda: show(ready=True), ending=lambda: show(ending=True), tell=lambda line: show(line=line),
    following={following},
)
try:
    ended = supervisor.run()
    show(ended=ended.name)
except TokenferryError as fault:
    show(fault=str(fault))
"""


class Supervised:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: list[dict[str, object]] = []

    def until(self, name: str, times: int = 1) -> list[object]:
        """Read on until something was said so often."""
        assert self.process.stdout is not None
        while len(found := self.all(name)) < times:
            line = self.process.stdout.readline()
            assert line, self.said
            self.said.append(json.loads(line))
        return found

    def all(self, name: str) -> list[object]:
        return [said[name] for said in self.said if name in said]

    def workers(self) -> dict[int, int]:
        """The process of each."""
        return {int(str(said["worker"])): int(str(said["pid"])) for said in self.said if "worker" in said}


@contextmanager
def supervised(
    before: str = "", terms: int = 1, *, following: str = "None", hangup: str = "pass"
) -> Iterator[Supervised]:
    program = PROGRAM.replace("{before}", before).replace("{terms}", str(terms))
    program = program.replace("{following}", following).replace("{hangup}", hangup)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        yield Supervised(process)
    finally:
        process.kill()
        process.communicate()


def test_all_workers_serve_before_it_is_ready_and_end_at_a_signal() -> None:
    with supervised() as running:
        running.until("ready")
        running.until("worker", 2)
        assert len(set(running.workers().values())) == 2
        running.process.send_signal(signal.SIGINT)
        assert running.until("ended") == ["SIGINT"]
        assert sorted(map(str, running.all("told"))) == ["1", "2"]
        assert running.all("line") == []


def test_a_worker_that_dies_is_replaced_and_that_is_said() -> None:
    with supervised() as running:
        running.until("ready")
        running.until("worker", 2)
        pid = running.workers()[2]
        os.kill(pid, signal.SIGKILL)
        assert running.until("line") == [
            f"worker 2 (process {pid}) was ended by SIGKILL; another takes its place in 0.5 s"
        ]
        running.until("worker", 3)
        assert running.workers()[2] != pid
        assert len(running.all("ready")) == 1


def test_pauses_double_while_a_worker_keeps_dying() -> None:
    with supervised() as running:
        running.until("ready")
        running.until("worker", 2)
        for times in (1, 2):
            os.kill(running.workers()[1], signal.SIGTERM)
            running.until("line", times)
            running.until("worker", 2 + times)
        first, second = map(str, running.all("line"))
        assert first.endswith("ended in order; another takes its place in 0.5 s")
        assert second.endswith("ended in order; another takes its place in 1 s")


def test_signals_of_the_terminal_reach_workers_once() -> None:
    """Ctrl-C goes to all processes of the foreground; a worker that took it twice would cut its streams."""
    with supervised(terms=2) as running:
        running.until("ready")
        running.until("worker", 2)
        for number in (signal.SIGINT, signal.SIGHUP):
            for pid in running.workers().values():
                os.kill(pid, number)
        running.process.send_signal(signal.SIGTERM)
        running.until("ending")
        assert running.all("told") == []
        running.process.send_signal(signal.SIGTERM)
        assert running.until("ended") == ["SIGTERM"]
        assert len(running.all("told")) == 2


FOLLOWING = """ReloadHooks(
    look=lambda: os.path.exists({look!r}) and not os.unlink({look!r}),
    reread=lambda: [not os.path.exists({bad!r}), show(reread=True)][0],
    is_end=lambda: os.path.exists({end!r}),
)"""
HANGUP = "signal.signal(signal.SIGHUP, lambda number, frame: show(hup=place.number))"


@contextmanager
def following(folder: Path) -> Iterator[Supervised]:
    """Supervised workers that follow what the files `look`, `bad` and `end` say by being there."""
    names = {name: str(folder / name) for name in ("look", "bad", "end")}
    with supervised(following=FOLLOWING.format(**names), hangup=HANGUP) as running:
        running.until("ready")
        running.until("worker", 2)
        yield running


def test_a_hangup_is_passed_on_if_what_is_followed_can_be_read_and_ends_nothing(tmp_path: Path) -> None:
    with following(tmp_path) as running:
        running.process.send_signal(signal.SIGHUP)
        assert sorted(map(str, running.until("hup", 2))) == ["1", "2"]
        (tmp_path / "bad").touch()
        running.process.send_signal(signal.SIGHUP)
        running.until("reread", 2)
        (tmp_path / "bad").unlink()
        running.process.send_signal(signal.SIGHUP)
        running.until("hup", 4)
        running.process.send_signal(signal.SIGTERM)
        assert running.until("ended") == ["SIGTERM"]
        assert len(running.all("hup")) == 4


def test_what_is_followed_is_looked_at_and_its_changes_are_passed_on(tmp_path: Path) -> None:
    with following(tmp_path) as running:
        (tmp_path / "look").touch()
        assert sorted(map(str, running.until("hup", 2))) == ["1", "2"]
        assert running.all("reread") == []


def test_a_storm_of_hangups_ends_nothing_and_the_last_one_counts(tmp_path: Path) -> None:
    with following(tmp_path) as running:
        for _ in range(500):
            running.process.send_signal(signal.SIGHUP)
        running.until("hup", 2)
        (tmp_path / "look").touch()
        running.process.send_signal(signal.SIGTERM)
        assert running.until("ended") == ["SIGTERM"]


def test_a_hangup_that_means_the_end_ends_it(tmp_path: Path) -> None:
    with following(tmp_path) as running:
        (tmp_path / "end").touch()
        running.process.send_signal(signal.SIGHUP)
        assert running.until("ended") == ["SIGHUP"]
        assert running.all("reread") == []


def test_workers_notice_that_their_supervisor_is_gone() -> None:
    with supervised() as running:
        running.until("ready")
        running.until("worker", 2)
        running.process.kill()
        assert sorted(map(str, running.until("orphan", 2))) == ["1", "2"]


def test_a_worker_that_can_not_begin_ends_it_all() -> None:
    with supervised(before="if place.number == 2: raise TokenferryError('no room here')") as running:
        assert running.until("fault") == ["a worker ended before it served; see the messages above"]
        assert running.all("ready") == []


def test_a_worker_never_runs_what_lies_behind_its_supervisor() -> None:
    with supervised(before="if place.number == 2: raise KeyboardInterrupt") as running:
        running.until("fault")
        assert len(running.all("fault")) == 1
        assert running.process.wait(60) == 0


def test_a_place_tells_which_worker_begins() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as report, os.fdopen(writer, "wb"):
        place = WorkerSlot(3, lifeline=-1, report=writer)
        try:
            place.begin().send(None)
        except StopIteration:
            assert report.read(8) == b"\x03"
