"""Two workers, one dead login: the webhook hears of it once, and once that nobody can serve."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest

from e2e.conftest import AddLogin
from e2e.parties import SandboxProcess, eventually, running, tokenferry, write_config
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e


class Receiver(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: Counter[str] = Counter()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.heard[f"{told['kind']} {told['subject']}".rstrip()] += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join()


def test_each_cause_is_heard_once_over_all_workers(
    home: Home, sandbox: SandboxProcess, add_login: AddLogin, receiver: Receiver, tmp_path: Path
) -> None:
    webhook = f"http://127.0.0.1:{receiver.server_port}/"
    write_config(
        home,
        f'[server]\nworkers = 2\n[alerts]\nwebhook = "{webhook}"\n'
        f'[[providers]]\nname = "sandbox"\nbase_url = "{sandbox.url}"\n',
    )
    add_login("alice")
    sandbox.revoke("alice", "family")
    assert tokenferry("refresh", "alice").code == 5
    with running("serve", tmp_path) as gateway, httpx2.Client(trust_env=False) as http:
        headers = {"x-api-key": tokenferry("token", "--gateway").out.strip(), "connection": "close"}
        body = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": []}
        for _ in range(8):
            assert http.post(f"{gateway.url}/v1/messages", json=body, headers=headers).status_code == 503
        eventually(lambda: len(receiver.heard) == 2, "both alerts")
    assert receiver.heard == {"needs-login alice": 1, "exhausted": 1}
    assert "alert needs-login: account alice needs a login" in (tmp_path / "serve.log").read_text()
