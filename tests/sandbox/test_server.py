import asyncio
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import pytest

from tokenferry.errors import TokenferryError, UsageError
from tokenferry.sandbox import Sandbox, serve

SERVE = """
import sys
from tokenferry.sandbox import serve
serve(port=int(sys.argv[1]), port_file=sys.argv[2], ready=lambda url: print(url, flush=True))
"""


class Foreground:
    """`serve` in a process of its own, from the time it listens."""

    def __init__(self, port_file: Path) -> None:
        command = [sys.executable, "-c", SERVE, "0", str(port_file)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_hanging_answers_too(number: int, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    running = Foreground(port_file)
    assert port_file.read_text() == running.url.rpartition(":")[2] + "\n"
    assert list(tmp_path.glob(".port*")) == []
    httpx2.post(f"{running.url}/_sandbox/faults", json={"kind": "hang", "times": 0})
    outcome: list[Exception] = []

    def hang() -> None:
        try:
            httpx2.get(f"{running.url}/api/hello", timeout=20)
        except httpx2.HTTPError as error:
            outcome.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    while not httpx2.get(f"{running.url}/_sandbox/counters").json()["in_flight"]:
        pass
    assert running.end(number) == (0, "")
    thread.join()
    assert isinstance(outcome[0], httpx2.RemoteProtocolError | httpx2.ReadError)
    assert not port_file.exists()


def test_a_port_in_use_is_reported_in_one_sentence_and_the_port_file_left_alone(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    port_file.write_text("somebody else's\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TokenferryError, match=rf"can't listen on 127.0.0.1:{port} \(.*in use"):
            serve(port=port, port_file=port_file)
        with pytest.raises(TokenferryError, match="in use"):
            Sandbox(port=port).start()
    assert port_file.read_text() == "somebody else's\n"


def test_it_listens_on_loopback_only() -> None:
    with pytest.raises(UsageError, match=r"not on 0\.0\.0\.0"):
        serve(host="0.0.0.0", port=0)


def test_a_port_file_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    script = [sys.executable, "-c", SERVE, "0", str(tmp_path / "missing" / "port")]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "TokenferryError: The port file" in done.stderr


def test_importing_the_sandbox_loads_no_server() -> None:
    script = "import sys, tokenferry.sandbox; print('uvicorn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_seed_gives_the_same_tokens_and_none_gives_others() -> None:
    def issued(seed: int | None) -> list[str]:
        with Sandbox(seed=seed) as sandbox:
            httpx2.get(f"{sandbox.url}/api/hello")
            return [
                sandbox.issue(name)[kind] for name in ("alice", "bob") for kind in ("access_token", "refresh_token")
            ]

    assert issued(1) == issued(1)
    assert len({*issued(1), *issued(2), *issued(None), *issued(None)}) == 16


def test_seeded_accounts_are_the_same_in_every_sandbox() -> None:
    with Sandbox() as one, Sandbox() as two:
        assert one.url != two.url
        for name in ("alice", "bob", "carol", "dave"):
            assert one.api_key(name) == two.api_key(name)
            assert one.api_key(name).startswith(f"sk-ant-api03-sandbox-{name}-")


def test_leaving_cuts_what_hangs_and_frees_the_port() -> None:
    outcome: list[Exception] = []

    def hang(url: str) -> None:
        try:
            httpx2.get(f"{url}/api/hello", timeout=20)
        except httpx2.HTTPError as error:
            outcome.append(error)

    with Sandbox() as sandbox:
        port = sandbox.port
        sandbox.fault("hang")
        thread = threading.Thread(target=hang, args=(sandbox.url,))
        thread.start()
        sandbox.wait_until(lambda counters: counters["in_flight"] == 1)
    thread.join()
    assert isinstance(outcome[0], httpx2.RemoteProtocolError | httpx2.ReadError)
    with Sandbox(port=port) as again:
        assert again.port == port
    again.close()


def test_it_can_not_be_started_twice() -> None:
    with Sandbox() as sandbox, pytest.raises(UsageError, match="already"):
        sandbox.start()


@pytest.mark.anyio
async def test_a_test_on_an_event_loop_may_control_it_without_blocking(sandbox: Sandbox) -> None:
    async with httpx2.AsyncClient(base_url=sandbox.url) as client:
        call = asyncio.create_task(client.get("/api/hello"))
        sandbox.fault("delay", seconds=0.001)
        sandbox.issue("alice")
        sandbox.settings("alice", token_lifetime=1)
        sandbox.revoke("alice")
        sandbox.advance(1)
        sandbox.clear()
        assert (await call).status_code == 200
        assert sandbox.requests(1)[0]["status"] == 200


def test_a_malformed_request_is_a_400_and_no_crash() -> None:
    with Sandbox() as sandbox, socket.create_connection(("127.0.0.1", sandbox.port)) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400")
        assert httpx2.get(f"{sandbox.url}/api/hello").status_code == 200


def test_no_repr_shows_a_credential() -> None:
    with Sandbox() as sandbox:
        bundle = sandbox.issue("alice")
        shown = repr(vars(sandbox._state.ledger)["access"][bundle["access_token"]]) + repr(sandbox)
        assert bundle["access_token"] not in shown
