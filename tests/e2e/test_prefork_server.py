"""A program under a pre-fork server: gunicorn with its workers forked from a process that used the transport."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.parties import PATIENCE, SandboxProcess, eventually, fetch, tokenferry
from tokenferry.settings import Home
from tokenferry.state import State

pytestmark = pytest.mark.e2e

WORKERS = 3


@pytest.fixture
def server(home: Home, sandbox: SandboxProcess, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Its address, and the id of the process that forks workers."""
    added = tokenferry("account", "add", "dave", "--provider", "sandbox", stdin=sandbox.api_key("dave"))
    assert added.code == 0, added.err
    log = tmp_path / "gunicorn.log"
    options = ["--preload", f"--workers={WORKERS}", "--bind=127.0.0.1:0", f"--log-file={log}", "--no-control-socket"]
    children = os.fspath(Path(__file__).with_name("children"))
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options, f"--chdir={children}", "wsgi_program:application"],
        env=os.environ | {"TOKENFERRY_HOME": os.fspath(home.path), "SANDBOX_URL": sandbox.url},
    )
    try:
        eventually(lambda: log.exists() and log.read_text().count("Booting worker") == WORKERS, "its workers start")
        found = re.search(r"Listening at: (http://\S+)", log.read_text())
        assert found
        yield found[1], process.pid
        process.terminate()
        assert process.wait(PATIENCE) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_workers_use_a_client_that_was_made_and_used_before_the_fork(
    server: tuple[str, int], sandbox: SandboxProcess, home: Home
) -> None:
    url, parent = server
    served: set[int] = set()

    def ask() -> bool:
        answer = fetch(url)
        assert answer["status"] == 200
        served.add(answer["pid"])
        return len(served) >= WORKERS

    eventually(ask, "each worker serves a request")
    assert parent not in served
    os.kill(gone := served.pop(), signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{gone}").exists(), "it is gone")
    eventually(ask, "the worker in place of one that was killed serves, too")
    assert gone not in served
    requests = len(sandbox.requests("/v1/messages"))
    os.kill(parent, signal.SIGTERM)

    def are_recorded() -> bool:
        with State(home.state) as state:
            found = sum(one.content.get("client") == "(in process)" for one in state.decisions.latest(100))
        return bool(found >= requests - 1)  # the killed worker may have had one to write

    eventually(are_recorded, "the requests of the parent and of its workers are on record once they have ended")
