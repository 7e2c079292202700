"""What the one sender makes of real sockets that misbehave."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refresh.rig import PATIENCE, wait_for
from tokenferry.errors import StorageFailed
from tokenferry.oauth import MAX_ANSWER, NotSent, TokenRequest, TokenResponse, TokenResponseLost
from tokenferry.refresh import send
from tokenferry.sandbox import Sandbox

Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answer one connection by hand; gives the URL."""
    threads: list[threading.Thread] = []
    listeners: list[socket.socket] = []

    def start(handle: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                handle(connection)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/token"

    yield start
    for thread in threads:
        thread.join(PATIENCE)
    for listener in listeners:
        listener.close()


def request(url: str) -> TokenRequest:
    return TokenRequest(url, (("content-type", "application/json"),), b'{"refresh_token": "canary-refresh"}')


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"canary-refresh" not in data:
        data += connection.recv(65_536)
    return data


def test_an_answer_is_given_whole_with_lower_case_names(serve: Serve) -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}")

    assert send(request(serve(handle)), PATIENCE) == TokenResponse(
        503, {"retry-after": "7", "content-length": "2"}, b"{}"
    )


def test_a_port_without_a_listener_counts_as_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = send(request(f"http://127.0.0.1:{port}/"), PATIENCE)
    assert isinstance(outcome, NotSent)
    assert "127.0.0.1 could not be reached (Connection refused)" in outcome.reason


def test_a_name_that_does_not_resolve_is_not_sent() -> None:
    assert isinstance(send(request("https://nowhere.invalid/token"), PATIENCE), NotSent)


def test_a_failed_handshake_is_not_sent(serve: Serve) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 400 this is no TLS\r\n\r\n")

    assert isinstance(send(request(serve(handle).replace("http:", "https:")), PATIENCE), NotSent)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"nonsense\r\n\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "half a chunk", "no HTTP"],
)
def test_a_connection_cut_after_the_request_loses_the_answer(serve: Serve, said: bytes) -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(said)

    outcome = send(request(serve(handle)), PATIENCE)
    assert isinstance(outcome, TokenResponseLost)
    assert "canary" not in outcome.reason


def test_silence_beyond_the_time_allowed_loses_the_answer(serve: Serve) -> None:
    over = threading.Event()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        over.wait(PATIENCE)

    outcome = send(request(serve(handle)), 0.2)
    over.set()
    assert outcome == TokenResponseLost("127.0.0.1 did not answer within 0.2 seconds")


def test_an_answer_that_drips_beyond_the_time_allowed_is_lost(serve: Serve) -> None:
    over = threading.Event()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not over.wait(0.02):
            try:
                connection.sendall(b" ")
            except OSError:
                return

    outcome = send(request(serve(handle)), 0.3)
    over.set()
    assert isinstance(outcome, TokenResponseLost)


@pytest.mark.parametrize(("length", "is_whole"), [(b"2", True), (b"3", False)])
def test_an_answer_that_is_there_whole_counts_though_the_process_slept(
    serve: Serve, length: bytes, *, is_whole: bool
) -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n{}")

    times = iter([0.0])
    outcome = send(request(serve(handle)), PATIENCE, monotonic=lambda: next(times, 1000.0))
    assert isinstance(outcome, TokenResponse if is_whole else TokenResponseLost)


def test_an_endless_answer_is_lost_without_being_read_to_the_end(serve: Serve) -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(b" " * 65_536)
        except OSError:
            return

    assert send(request(serve(handle)), PATIENCE) == TokenResponseLost("the answer is larger than any token endpoint's")
    assert MAX_ANSWER == 1024 * 1024


def test_a_redirect_is_an_answer_and_is_not_followed(tokenferry_sandbox: Sandbox) -> None:
    target = f"{tokenferry_sandbox.url}/v1/messages"
    tokenferry_sandbox.fault("redirect", location=target, path="/v1/oauth/token")
    outcome = send(request(f"{tokenferry_sandbox.url}/v1/oauth/token"), PATIENCE)
    assert isinstance(outcome, TokenResponse)
    assert outcome.status == 307
    assert [each["path"] for each in tokenferry_sandbox.requests()] == ["/v1/oauth/token"]


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    tokenferry_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert isinstance(send(request(f"{tokenferry_sandbox.url}/v1/oauth/token"), PATIENCE), TokenResponse)


@pytest.mark.parametrize(
    ("proxy", "why"), [("http://127.0.0.1:1", "Connection refused"), ("nonsense://user:hush@proxy", "ValueError")]
)
def test_a_proxy_that_can_not_be_used_means_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch, proxy: str, why: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    outcome = send(request("https://auth.invalid/token"), PATIENCE)
    assert outcome == NotSent(f"auth.invalid could not be reached ({why}) through the proxy of HTTPS_PROXY")


@pytest.mark.parametrize(
    ("server", "exempt", "is_asked"),
    [
        ("https://auth.invalid", 443, False),
        ("https://auth.invalid", 8443, True),
        ("https://auth.invalid:8443", 8443, False),
        ("https://auth.invalid:8443", 443, True),
        ("http://auth.invalid", 80, False),
    ],
)
def test_a_proxy_is_not_asked_for_an_exempted_port(
    monkeypatch: pytest.MonkeyPatch, server: str, exempt: int, *, is_asked: bool
) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", f"auth.invalid:{exempt}")
    outcome = send(request(f"{server}/token"), PATIENCE)
    assert isinstance(outcome, NotSent)
    assert ("through the proxy of HTTP" in outcome.reason) == is_asked


def test_the_certificates_of_the_environment_count_for_other_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokenferry_sandbox: Sandbox
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    outcome = send(request("https://auth.invalid/token"), PATIENCE)
    assert isinstance(outcome, NotSent)
    assert "no certificate" in outcome.reason
    assert isinstance(send(request(f"{tokenferry_sandbox.url}/v1/oauth/token"), PATIENCE), TokenResponse)


def test_nothing_is_sent_twice_and_no_connection_is_kept(serve: Serve) -> None:
    """Neither a cut connection nor an inviting keep-alive makes the transport use another one, or this one again."""
    seen: list[bytes] = []

    def keep_alive(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}")
        seen.append(connection.recv(65_536))

    assert isinstance(send(request(serve(keep_alive)), PATIENCE), TokenResponse)
    wait_for(lambda: len(seen) == 2)
    assert seen[1] == b""

    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        outcomes: list[object] = []
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/token"
        thread = threading.Thread(target=lambda: outcomes.append(send(request(url), PATIENCE)))
        thread.start()
        connection, _ = listener.accept()
        read_request(connection)
        connection.close()
        thread.join(PATIENCE)
        assert isinstance(outcomes[0], TokenResponseLost)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_what_is_called_before_the_first_byte_keeps_it_from_leaving(serve: Serve) -> None:
    seen: list[bytes] = []

    def refuse() -> None:
        raise StorageFailed("the note can't be written")

    outcome = send(request(serve(lambda connection: seen.append(connection.recv(65_536)))), PATIENCE, refuse)
    assert outcome == NotSent("the note can't be written")
    wait_for(lambda: seen)
    assert seen == [b""]
