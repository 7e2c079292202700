"""The gateway under load: nothing is lost, nothing grows, nothing goes on that nobody waits for."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.conftest import Tell
from e2e.load import Load, Origin, running_origin
from e2e.parties import PATIENCE, Server, eventually, running, tokenferry, write_config
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

REQUESTS: Final = int(os.environ.get("TOKENFERRY_E2E_REQUESTS", "100000"))
MEBIBYTE: Final = 1 << 20
ENDLESS: Final = 1 << 40
DOCUMENT: Final = "document 2048"


@pytest.fixture
def origin(home: Home) -> Iterator[Origin]:
    """An upstream that the home's one account asks."""
    with running_origin() as origin:
        write_config(home, f'[[providers]]\nname = "origin"\nbase_url = "{origin.url}"\n')
        added = tokenferry("account", "add", "a", "--provider", "origin", "--kind", "api-key", stdin="sk-ant-api03-a")
        assert added.code == 0, added.err
        yield origin


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[Server, str]]:
    with running("serve", folder, *options) as gateway:
        yield gateway, tokenferry("token", "--gateway").out.strip()


def check_whole(told: dict[str, Any], count: int) -> None:
    assert (told["whole"], told["wrong"], told["cut"], told["unanswered"]) == (count, 0, 0, 0), told


def resident(server: Server) -> int:
    """The memory of a process in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def workers(server: Server) -> set[int]:
    pid = server.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_a_thousand_streams_at_once_lose_no_byte(origin: Origin, tmp_path: Path) -> None:
    """Each is of another content, and none ends before all have begun."""
    with (
        serving(tmp_path) as (gateway, key),
        Load(gateway.url, key, connections=1000, requests=1000, answer="stream SEED 30 10 held") as load,
    ):
        origin.wait(lambda figures: figures["held"] == 1000, "all streams have begun")
        origin.release()
        check_whole(load.end(), 1000)
    figures = origin.figures()
    assert (figures["answered"], figures["wrong"], figures["lost"], figures["most_open"]) == (1000, 0, 0, 1000)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_the_times_that_are_measured_are_those_of_the_first_content(origin: Origin, tmp_path: Path, path: str) -> None:
    """`bench/first_byte.py` goes by it: content comes as late as was asked for, and what is gated begins no sooner."""
    late = 0.3
    with serving(tmp_path) as (gateway, key):
        told = Load(
            gateway.url, key, path=path, connections=1, requests=3, answer=f"stream SEED 5 0 {late * 1000:.0f}"
        ).end()
    check_whole(told, 3)
    assert late <= told["first_content"] <= told["p99"]
    assert 0 < told["first_byte"] <= told["first_content"]
    if path == "/v1/messages":
        assert told["first_byte"] >= late


def test_memory_is_flat_over_many_requests(origin: Origin, tmp_path: Path, tell: Tell) -> None:
    """Each tenth of the requests is followed by streams and by large bodies."""
    sizes: list[int] = []
    seconds = 0.0
    tenth = REQUESTS // 10
    jobs: list[dict[str, Any]] = [
        {"connections": 16, "requests": tenth, "answer": DOCUMENT},
        {"connections": 50, "requests": 200, "answer": "stream SEED 50 0"},
        {"connections": 4, "requests": 40, "answer": "document 1000000", "size": 1_000_000},
    ]
    with serving(tmp_path) as (gateway, key):
        for _ in range(10):
            for job in jobs:
                told = Load(gateway.url, key, **job).end()
                check_whole(told, job["requests"])
                seconds += told["seconds"]
            sizes.append(resident(gateway))
    figures = origin.figures()
    assert (figures["answered"], figures["wrong"]) == (10 * (tenth + 240), 0)
    tell(
        f"{10 * tenth} requests in {seconds:.0f} s: memory {', '.join(f'{size / MEBIBYTE:.1f}' for size in sizes)} MiB"
    )
    assert min(sizes[-3:]) - min(sizes[3:6]) < 4 * MEBIBYTE, sizes


@pytest.mark.parametrize("fresh", [False, True], ids=["on kept connections", "each on a connection of its own"])
def test_no_request_that_was_accepted_is_lost_by_an_end(
    origin: Origin, tmp_path: Path, tell: Tell, *, fresh: bool
) -> None:
    """Requests come as fast as they can while it ends; streams that have begun run to their end."""
    with serving(tmp_path) as (gateway, key), contextlib.ExitStack() as stack:
        streams = stack.enter_context(
            Load(gateway.url, key, connections=50, requests=50, answer="stream SEED 20 20 held")
        )
        origin.wait(lambda figures: figures["held"] == 50, "the streams have begun")
        job = {"connections": 32, "requests": ENDLESS, "answer": DOCUMENT, "until_refused": True, "fresh": fresh}
        requests = stack.enter_context(Load(gateway.url, key, name="r", **job))
        origin.wait(lambda figures: len(figures["finished"]) > 500, "there is load")
        gateway.process.terminate()
        told = requests.end()
        assert gateway.process.poll() is None, "it waits for the streams"
        origin.release()
        check_whole(streams.end(), 50)
        assert gateway.process.wait(PATIENCE) == 0
    figures = origin.figures()
    assert (told["wrong"], told["cut"], figures["lost"], figures["wrong"]) == (0, 0, 0, 0), told
    assert set(told["answered_ids"]) == set(figures["arrived"])
    tell(f"an end under load: {told['whole']} requests were answered, {told['unanswered']} met a closed connection")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_worker_that_ends_under_load_is_replaced(origin: Origin, tmp_path: Path, number: signal.Signals) -> None:
    """One that is told to end loses nothing; one that is killed loses what it had in flight, and nothing else."""
    connections, count = 32, 8000
    job = {"connections": connections, "requests": count, "answer": DOCUMENT, "name": "r"}
    with serving(tmp_path, "--workers", "2") as (gateway, key), Load(gateway.url, key, **job) as load:
        origin.wait(lambda figures: len(figures["finished"]) > 500, "there is load")
        before = workers(gateway)
        victim = min(before)
        os.kill(victim, number)
        eventually(lambda: len(workers(gateway) - {victim}) == 2, "there is another worker")
        assert len(workers(gateway) & before) == 1
        told = load.end()
        check_whole(Load(gateway.url, key, connections=8, requests=200, answer=DOCUMENT).end(), 200)
    figures = origin.figures()
    assert (told["wrong"], figures["wrong"]) == (0, 0)
    assert told["whole"] + told["cut"] + told["unanswered"] == count
    if number == signal.SIGTERM:
        assert (told["cut"], figures["lost"]) == (0, 0)
        assert set(figures["arrived"]) == set(told["answered_ids"])
    else:
        assert told["cut"] + told["unanswered"] <= connections


def test_clients_that_are_killed_end_the_upstreams_work(origin: Origin, tmp_path: Path) -> None:
    with serving(tmp_path) as (gateway, key), contextlib.ExitStack() as stack:
        answers = ("stream SEED 0 20", "stream SEED 9 0 held", "document 2048 held")
        loads = [
            stack.enter_context(Load(gateway.url, key, connections=50, requests=50, answer=answer))
            for answer in answers
        ]
        origin.wait(lambda figures: figures["open"] == 150, "all of them wait")
        for load in loads:
            load.kill()
        origin.wait(lambda figures: figures["lost"] == 150, "the upstream knows")
        assert origin.figures()["open"] == 0
        check_whole(Load(gateway.url, key, connections=1, requests=9, answer=DOCUMENT).end(), 9)
