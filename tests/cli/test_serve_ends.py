"""How a gateway ends: it stops accepting, finishes what it accepted, says what it waits for, and loses nothing."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.harness import PATIENCE, Outcome, eventually, tokenferry
from cli.serving import MESSAGE, Served, serving
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

Login = Callable[..., dict[str, Any]]


def test_it_waits_for_streams_and_says_so(sandbox: Sandbox, login: Login, tmp_path: Path) -> None:
    login()
    sandbox.fault("slow", path="/v1/messages", seconds=0.02)
    with serving(tmp_path) as served:
        with served.stream() as answer:
            chunks = answer.iter_raw()
            text = next(chunks)
            served.tell(signal.SIGTERM)
            served.hears("waiting for 1 stream; at most 30 s, or until a second signal")
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", served.port))
            text += b"".join(chunks)
        assert b"message_stop" in text
        assert b"event: error" not in text
        assert served.end() == 0
        assert not (tmp_path / "port").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_streams_with_an_error(
    sandbox: Sandbox, login: Login, tmp_path: Path, workers: str
) -> None:
    login()
    sandbox.fault("slow", path="/v1/messages", seconds=3600, events=3)
    with serving(tmp_path, "--workers", workers) as served:
        with served.stream() as answer:
            chunks = answer.iter_raw()
            text = next(chunks)
            served.tell(signal.SIGTERM)
            served.hears("waiting for 1 stream")
            served.tell(signal.SIGTERM)
            text += b"".join(chunks)
        assert b"event: error" in text
        assert b"message_stop" not in text
        assert served.end() == 0
    sandbox.clear()


def test_after_the_drain_streams_end_with_an_error(sandbox: Sandbox, login: Login, tmp_path: Path) -> None:
    login()
    sandbox.fault("slow", path="/v1/messages", seconds=3600, events=3)
    with serving(tmp_path, "--drain", "0.2") as served:
        with served.stream() as answer:
            chunks = answer.iter_raw()
            text = next(chunks)
            served.tell(signal.SIGTERM)
            text += b"".join(chunks)
        assert b"event: error" in text
        assert served.end() == 0
    sandbox.clear()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_refresh_is_waited_for_whatever_is_signalled(
    sandbox: Sandbox, login: Login, home: Home, tmp_path: Path, workers: str
) -> None:
    before = login(expires_in=1)
    sandbox.advance(5)
    sandbox.fault("hang", path="/v1/oauth/token", after_work=True)
    with serving(tmp_path, "--workers", workers) as served, ThreadPoolExecutor() as pool:
        asked = pool.submit(httpx2.post, f"{served.url}/v1/messages", content=MESSAGE, headers=served.headers)
        sandbox.wait_until(lambda counters: "/v1/oauth/token" in counters["paths"])
        served.tell(signal.SIGTERM)
        served.hears("waiting for 1 request, the refresh of account work; at most 30 s")
        served.tell(signal.SIGTERM)
        assert asked.result(PATIENCE).status_code == 503
        assert served.process.poll() is None
        sandbox.clear()
        assert served.end() == 0
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1
    assert before["refresh_token"] not in (home.accounts / "work.json").read_text()


class Client(threading.Thread):
    """Sends one request after another, a few on each connection, until it is refused or told to stop.

    A request is `lost` if it got less than a whole answer. `unheard` ones got nothing on a connection that had served
    before: the client's request and the server's close have met on the way, which HTTP/1.1 can't prevent.
    """

    def __init__(self, served: Served, *, fresh_may_fail: bool) -> None:
        super().__init__()
        self._port = served.port
        lines = "".join(f"{name}: {value}\r\n" for name, value in served.headers.items())
        head = f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n{lines}"
        self._request = f"{head}content-length: {len(MESSAGE)}\r\n\r\n".encode() + MESSAGE
        self._fresh_may_fail = fresh_may_fail
        self.answered = self.unheard = 0
        self.lost: list[bytes] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                sock = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
            except ConnectionError:
                return
            with sock:
                for number in range(7):
                    if not self._exchange(sock, fresh=number == 0):
                        break

    def _exchange(self, sock: socket.socket, *, fresh: bool) -> bool:
        """Tell whether the connection may be used again."""
        raw = b""
        with contextlib.suppress(ConnectionError):
            sock.sendall(self._request)
            while not is_whole(raw) and (data := sock.recv(1 << 16)):
                raw += data
        if is_whole(raw) and raw.startswith(b"HTTP/1.1 200 "):
            self.answered += 1
            return b"connection: close" not in raw
        if raw or (fresh and not self._fresh_may_fail):
            self.lost.append(raw)
        else:
            self.unheard += 1
        return False


def is_whole(raw: bytes) -> bool:
    head, end, body = raw.partition(b"\r\n\r\n")
    if not end:
        return False
    _, _, length = head.lower().partition(b"content-length: ")
    return len(body) == int(length.split(b"\r\n")[0]) if length else body.endswith(b"0\r\n\r\n")


def test_a_signal_under_load_loses_no_request_that_was_accepted(sandbox: Sandbox, login: Login, tmp_path: Path) -> None:
    login()
    with serving(tmp_path) as served:
        clients = [Client(served, fresh_may_fail=True) for _ in range(8)]
        for client in clients:
            client.start()
        eventually(lambda: sum(client.answered for client in clients) > 100)
        served.tell(signal.SIGTERM)
        for client in clients:
            client.join(PATIENCE)
        assert served.end() == 0
    assert [client.lost for client in clients] == [[]] * 8
    assert sandbox.counters()["paths"]["/v1/messages"] == sum(client.answered for client in clients)


def test_a_worker_restarts_under_load_and_no_request_is_lost(sandbox: Sandbox, login: Login, tmp_path: Path) -> None:
    login()
    with serving(tmp_path, "--workers", "2") as served:
        clients = [Client(served, fresh_may_fail=False) for _ in range(8)]
        for client in clients:
            client.start()
        eventually(lambda: sum(client.answered for client in clients) > 50)
        for worker in children(served.process.pid):
            seen = len(served.said)
            os.kill(worker, signal.SIGTERM)
            eventually(lambda seen=seen: any("takes its place" in line for line in served.said[seen:]))  # type: ignore[misc]  # mypy can't infer the default
            eventually(lambda: len(children(served.process.pid)) == 2)
            goal = sum(client.answered for client in clients) + 50
            eventually(lambda goal=goal: sum(client.answered for client in clients) > goal)  # type: ignore[misc]  # as above
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(PATIENCE)
        served.tell(signal.SIGTERM)
        assert served.end() == 0
    assert [client.lost for client in clients] == [[]] * 8
    assert sandbox.counters()["paths"]["/v1/messages"] == sum(client.answered for client in clients)


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def test_nine_hundred_idle_connections_leave_it_working(sandbox: Sandbox, login: Login, tmp_path: Path) -> None:
    login()
    program = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    file = tmp_path / "port"
    command = str(Path(sys.executable).with_name("tokenferry"))
    arguments = [sys.executable, "-c", program, command, "serve", "--port", "0", "--port-file", str(file)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: file.exists() or process.poll() is not None)
        address = ("127.0.0.1", int(file.read_text()))
        headers = {"x-api-key": tokenferry("token", "--gateway").out.strip(), "anthropic-version": "2023-06-01"}
        with contextlib.ExitStack() as stack:
            for _ in range(900):
                stack.enter_context(socket.create_connection(address, timeout=PATIENCE))
            with httpx2.Client(base_url=f"http://127.0.0.1:{address[1]}", headers=headers, trust_env=False) as client:
                for _ in range(300):  # of these the oldest give way
                    stack.enter_context(socket.create_connection(address, timeout=PATIENCE))
                    answer = client.post(
                        "/v1/messages", content=MESSAGE, headers={"content-type": "application/json"}, timeout=PATIENCE
                    )
                    assert answer.status_code == 200, answer.text
        process.terminate()
        out, err = process.communicate(timeout=PATIENCE)
        assert Outcome(process.returncode, out, err).code == 0
        assert "Too many open files" not in err
    finally:
        process.kill()
        process.communicate()
