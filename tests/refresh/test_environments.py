"""Environment variables are input: whatever they hold, a refresh that never left the machine costs no login."""

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effort import effort
from refresh.rig import NAME, PATIENCE, Rig, token
from tokenferry.errors import RefreshFailed
from tokenferry.oauth import NotSent, TokenRequest, TokenResponseLost
from tokenferry.refresh import FileJournal, send

_URL = "https://auth.invalid/token"
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_OTHER_VARIABLES = ("NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "REQUEST_METHOD")
_text = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20)
_hosts = st.sampled_from(
    [
        "127.0.0.1:1",
        "[::1]:1",
        "localhost:1",
        "proxy.invalid",
        "[",
        "a b",
        "\\",
        "",
        ":",
        "127.0.0.1:99999",
        "u:p@ss@[::1",
    ]
)
_schemes = st.sampled_from(["http://", "https://", "socks5://", "socks5h://", "socks4://", "ftp://", "HTTP:/", "", ":"])
_proxies = st.builds(str.__add__, _schemes, _hosts) | _text.filter(lambda text: "." not in text)
_exempt = st.sampled_from(
    ["*", "auth.invalid", ".invalid", "[", "10.0.0.0/99", "::/0", "x:99999999", "http://", "%", "[::1]:1"]
)
_exemptions = st.lists(_exempt | _text, max_size=3).map(",".join)
_files = st.sampled_from(["", "/nowhere/at/all", "/dev/null", "/proc/self/mem", "/"]) | _text
_environments = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(_PROXY_VARIABLES, _proxies)
    | {name: _exemptions if name.lower() == "no_proxy" else _files for name in _OTHER_VARIABLES},
)


@pytest.fixture
def proxy() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """A proxy on loopback that treats one connection as it is told; gives its URL."""
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
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for thread in threads:
        thread.join(PATIENCE)
    for listener in listeners:
        listener.close()


def head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65_536)
    return data


def request(url: str = _URL) -> TokenRequest:
    return TokenRequest(url, (("content-type", "application/json"),), b'{"refresh_token": "canary-refresh"}')


@settings(max_examples=effort(40), suppress_health_check=list(HealthCheck))
@given(environment=_environments)
def test_no_environment_costs_a_login(rig: Rig, environment: dict[str, str]) -> None:
    """The refresh fails, as often as it is tried (once an example), and nothing is on record about the token."""
    if NAME not in rig.store.names():
        rig.put(token())
    rest = {key: text for key, text in os.environ.items() if key not in (*_PROXY_VARIABLES, *_OTHER_VARIABLES)}
    with patch.dict(os.environ, rest | environment, clear=True):
        broker = rig.broker(send=send)
        rig.clock.advance(3600)
        with pytest.raises(RefreshFailed):
            broker.resolve(NAME)
    journal = FileJournal(rig.home.journal)
    assert journal.attempt(NAME) is None
    failure = journal.failure(NAME)
    assert failure is not None
    assert failure.kind == "failed"


def _close(connection: socket.socket) -> None:
    head(connection)


def _reset(connection: socket.socket) -> None:
    head(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _says(*answers: bytes) -> Callable[[socket.socket], None]:
    def handle(connection: socket.socket) -> None:
        head(connection)
        for answer in answers:
            connection.sendall(answer)

    return handle


@pytest.mark.parametrize(
    "handle",
    [
        _close,
        _reset,
        _says(b"nonsense\r\n\r\n"),
        _says(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n"),
        _says(b"HTTP/1.1 200 Connected\r\n"),
        _says(b"HTTP/1.1 200 Connected\r\n\r\n"),
        _says(b"HTTP/1.1 200 Connected\r\n\r\n", b"this is no TLS"),
    ],
    ids=["closes", "resets", "nonsense", "refuses", "half an answer", "closes the tunnel", "no TLS in the tunnel"],
)
def test_a_proxy_that_fails_before_the_request_is_in_the_tunnel_means_not_sent(
    proxy: Callable[[Callable[[socket.socket], None]], str],
    monkeypatch: pytest.MonkeyPatch,
    handle: Callable[[socket.socket], None],
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy(handle))
    outcome = send(request(), PATIENCE)
    assert isinstance(outcome, NotSent)
    assert "through the proxy of HTTPS_PROXY" in outcome.reason


def test_a_proxy_that_hangs_before_the_tunnel_means_not_sent(
    proxy: Callable[[Callable[[socket.socket], None]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(_: socket.socket) -> None:
        over.wait(PATIENCE)

    monkeypatch.setenv("https_proxy", proxy(hang))
    outcome = send(request(), 0.2)
    over.set()
    assert isinstance(outcome, NotSent)


def test_a_plain_request_that_a_proxy_takes_is_sent(
    proxy: Callable[[Callable[[socket.socket], None]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without TLS the proxy gets the request itself, and may have forwarded it."""
    monkeypatch.setenv("HTTP_PROXY", proxy(_close))
    assert isinstance(send(request("http://auth.invalid/token"), PATIENCE), TokenResponseLost)


@pytest.mark.parametrize("proxy_url", ["socks5h://127.0.0.1:7890", "socks4://x", "http://[::1", "http://u:s3cret@[x"])
def test_only_the_proxy_of_this_url_is_read(monkeypatch: pytest.MonkeyPatch, proxy_url: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy_url)
    outcome = send(request(), PATIENCE)
    assert isinstance(outcome, NotSent)
    assert "PROXY" not in outcome.reason
    monkeypatch.setenv("HTTPS_PROXY", proxy_url)
    outcome = send(request(), PATIENCE)
    assert isinstance(outcome, NotSent)
    assert "HTTPS_PROXY" in outcome.reason
    assert "s3cret" not in outcome.reason


def test_an_exempt_host_is_reached_without_its_malformed_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://")
    monkeypatch.setenv("NO_PROXY", "other.invalid, .invalid")
    outcome = send(request(), PATIENCE)
    assert isinstance(outcome, NotSent)
    assert "PROXY" not in outcome.reason


def test_a_certificate_file_that_is_missing_means_not_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    assert isinstance(send(request(), PATIENCE), NotSent)
