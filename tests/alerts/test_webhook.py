"""An alert is posted as JSON, signed, to one address and no other."""

import hmac
import json
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tokenferry.alerts import SIGNATURE, Alert, send_alert
from tokenferry.secret import Secret
from tokenferry.settings import AlertSettings

ALERT = Alert("budget", "key:ci", "76 % of the budget is used", stage="75")


class Receiver(HTTPServer):
    """A webhook that keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 204

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/s3cret"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.send_header("location", f"{self.server.url}/elsewhere")
        self.send_header("content-length", "0")
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


def test_it_is_json_and_signed_with_the_files_content(receiver: Receiver, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a good secret\n")
    secret.chmod(0o600)
    settings = AlertSettings(webhook=Secret(receiver.url), secret_file=secret)
    assert send_alert(settings, ALERT, 1_800_000_000.5) is None
    ((path, headers, body),) = receiver.received
    assert path == "/hooks/s3cret"
    told = json.loads(body)
    assert told.pop("host")
    assert told == {
        "kind": "budget",
        "subject": "key:ci",
        "message": "76 % of the budget is used",
        "at": 1_800_000_000,
    }
    digest = hmac.new(b"a good secret", b"1800000000." + body, sha256).hexdigest()
    assert headers[SIGNATURE] == f"t=1800000000,v1={digest}"


def test_without_a_secret_nothing_is_signed_and_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.status = 307
    fault = send_alert(AlertSettings(webhook=Secret(receiver.url)), ALERT, 1.8e9)
    assert fault == "the webhook at 127.0.0.1 answered 307"
    assert len(receiver.received) == 1
    assert SIGNATURE not in receiver.received[0][1]


def test_no_fault_names_the_path(tmp_path: Path) -> None:
    nobody = AlertSettings(webhook=Secret("http://127.0.0.1:1/hooks/s3cret"))
    assert send_alert(nobody, ALERT, 1.8e9) == "the webhook at 127.0.0.1 could not be asked (ConnectError)"
    open_to_all = tmp_path / "secret"
    open_to_all.write_text("x")
    open_to_all.chmod(0o644)
    fault = send_alert(AlertSettings(webhook=nobody.webhook, secret_file=open_to_all), ALERT, 1.8e9)
    assert fault is not None
    assert "s3cret" not in fault + repr(nobody)
