"""The real Claude Code command-line client over the gateway's Unix socket and over TLS."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from e2e.conftest import AddLogin
from e2e.parties import COMMAND, MODULES, PATIENCE, Outcome, SandboxProcess, end, eventually, lacking
from e2e.recorder import ClosedDoor, closed_door
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

ANSWER = "Hello from the sandbox, you said: hi ⛴"
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1"}


@pytest.fixture
def door() -> Iterator[ClosedDoor]:
    """Meets whatever the client asks of the world."""
    with closed_door() as door:
        yield door
    assert door.asked == []


def asked(tmp_path: Path, door: ClosedDoor, **variables: str) -> Outcome:
    path = MODULES / "@anthropic-ai/claude-code-linux-x64/claude"
    if not path.is_file():
        lacking("the npm package @anthropic-ai/claude-code-linux-x64")
    person = tmp_path / "claude"
    person.mkdir(mode=0o700)
    proxies = {"HTTP_PROXY": door.url, "HTTPS_PROXY": door.url, "NO_PROXY": "127.0.0.1,localhost,gateway.local"}
    base = {"PATH": "/usr/bin:/bin", "HOME": str(person), "TERM": "dumb", "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [path, "-p", "hi"],
        cwd=person,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=base | QUIET | proxies | variables,
    )
    return end(process)


def local_key() -> str:
    return subprocess.run([COMMAND, "token", "--gateway"], capture_output=True, text=True, check=True).stdout.strip()


def test_it_answers_over_a_unix_socket(
    home: Home, add_login: AddLogin, sandbox: SandboxProcess, tmp_path: Path, door: ClosedDoor
) -> None:
    add_login("alice")
    path = home.path / "gateway.sock"
    with subprocess.Popen([COMMAND, "serve", "--uds", str(path)], stdout=subprocess.DEVNULL) as gateway:
        try:
            eventually(path.exists, "the gateway listens")
            outcome = asked(
                tmp_path,
                door,
                ANTHROPIC_UNIX_SOCKET=str(path),
                ANTHROPIC_BASE_URL="http://gateway.local",
                ANTHROPIC_AUTH_TOKEN=local_key(),
            )
            assert (outcome.code, outcome.out.strip()) == (0, ANSWER), outcome
            gateway.terminate()
            assert gateway.wait(PATIENCE) == 0
        finally:
            gateway.kill()
    assert {one["status"] for one in sandbox.requests("/v1/messages")} == {200}


def test_it_answers_over_tls(
    home: Home, add_login: AddLogin, sandbox: SandboxProcess, tmp_path: Path, door: ClosedDoor
) -> None:
    add_login("alice")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    roots, certificate, key = (home.path / name for name in ("roots.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(roots))
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.touch(0o600)
    key.write_bytes(issued.private_key_pem.bytes())
    port = tmp_path / "port"
    arguments = ["--port", "0", "--port-file", str(port), "--tls-cert", str(certificate), "--tls-key", str(key)]
    with subprocess.Popen([COMMAND, "serve", *arguments], stdout=subprocess.DEVNULL) as gateway:
        try:
            eventually(port.exists, "the gateway listens")
            url = f"https://127.0.0.1:{port.read_text().strip()}"
            outcome = asked(
                tmp_path,
                door,
                NODE_EXTRA_CA_CERTS=str(roots),
                ANTHROPIC_BASE_URL=url,
                ANTHROPIC_AUTH_TOKEN=local_key(),
            )
            assert (outcome.code, outcome.out.strip()) == (0, ANSWER), outcome
            gateway.terminate()
            assert gateway.wait(PATIENCE) == 0
        finally:
            gateway.kill()
    assert {one["status"] for one in sandbox.requests("/v1/messages")} == {200}
