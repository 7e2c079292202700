"""`serve --detach` and `stop`: a gateway that outlives its terminal, and ends once its requests have finished."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.harness import Outcome, begin, end, tokenferry
from cli.serving import serving
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import GatewayRegistration, gateway_records

Login = Callable[..., dict[str, Any]]
Inside = Callable[..., Outcome]


@pytest.fixture
def detached(home: Home) -> Iterator[Callable[..., Outcome]]:
    yield lambda *options: tokenferry("serve", "--detach", "--port", "0", *options)
    for record in gateway_records(home):
        if record.is_running and record.pid is not None:
            os.kill(record.pid, signal.SIGKILL)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_detached_gateway_listens_when_the_command_ends_and_stops_when_asked(
    home: Home, detached: Callable[..., Outcome], workers: str, tmp_path: Path
) -> None:
    outcome = detached("--workers", workers, "--port-file", str(tmp_path / "port"))
    assert (outcome.code, outcome.err) == (0, "")
    listening, told = outcome.out.splitlines()
    url = listening.removeprefix("listening on ")
    assert url.endswith((tmp_path / "port").read_text().strip())
    assert not url.endswith(":13456"), "port 0 is any free one, and not the default"
    assert httpx2.get(f"{url}/healthz", trust_env=False).status_code == 200
    (record,) = gateway_records(home)
    assert told == f"process {record.pid} logs to {home.path / 'serve.log'}; stop it with: tokenferry stop"
    assert os.getsid(record.pid or 0) == record.pid, "no terminal's end reaches it"
    assert (home.path / "serve.log").stat().st_mode & 0o777 == 0o600
    stopped = tokenferry("stop")
    assert (stopped.code, stopped.out) == (0, f"stopped the gateway at {record}\n")
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/healthz", trust_env=False)
    assert gateway_records(home) == []


def test_one_that_can_not_start_says_why_and_gives_its_exit_code(home: Home, detached: Callable[..., Outcome]) -> None:
    outcome = detached("--host", "192.0.2.1")
    assert outcome.code == 3
    assert "--allow-remote" in outcome.one_line()


def test_a_stop_waits_for_a_stream(sandbox: Sandbox, login: Login, tmp_path: Path) -> None:
    login()
    sandbox.fault("slow", path="/v1/messages", seconds=0.2)
    with serving(tmp_path) as served, served.stream() as answer:
        chunks = answer.iter_raw()
        text = next(chunks)
        stopping = begin("stop")
        served.hears("waiting for 1 stream")
        assert stopping.poll() is None
        text += b"".join(chunks)
        assert b"message_stop" in text
        assert served.end() == 0
        assert end(stopping).code == 0


def test_without_a_gateway_there_is_nothing_to_stop(home: Home, inside: Inside) -> None:
    outcome = inside("stop")
    assert (outcome.code, outcome.one_line()) == (0, "no gateway of this home runs")
    assert inside("stop", "--json").json == []


def test_a_process_that_does_not_hold_the_record_is_left_alone(home: Home, inside: Inside) -> None:
    """As where the home is shared with another container: there the number is another process's."""
    registration = GatewayRegistration(home, url="http://127.0.0.1:13456")
    with subprocess.Popen(["sleep", "60"]) as other:
        record = registration.path.read_text()
        registration.path.write_text(record.replace(f'"pid": {os.getpid()}', f'"pid": {other.pid}'))
        outcome = inside("stop")
        assert outcome.code == 6
        assert "as in another container" in outcome.one_line()
        assert other.poll() is None
        other.kill()
    registration.end()
