"""The clients people use, over each way to the gateway: TCP, TLS, and a Unix socket."""

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anthropic
import httpx2
import pytest
import trustme
from anthropic.types import MessageParam

from e2e.claude import Claude
from e2e.conftest import AddLogin
from e2e.parties import CHILDREN, MODULES, SandboxProcess, Server, begin, end, eventually, lacking, program, tokenferry
from e2e.parties import running as running_server
from e2e.recorder import ClosedDoor, closed_door

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]

ANSWER: Final = "Hello from the sandbox, you said: hi ⛴"
MODEL: Final = "claude-sonnet-5-5"
QUESTION: Final[list[MessageParam]] = [{"role": "user", "content": "hi"}]
WAYS: Final = ["TCP", "TLS", "a Unix socket"]


@dataclass(frozen=True)
class Way:
    """How clients reach the gateway, with the variables by which Claude Code learns of it."""

    url: str
    key: str
    server: Server
    authority: Path | None = None
    socket: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        named = {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_AUTH_TOKEN": self.key}
        return named if self.socket is None else named | {"ANTHROPIC_UNIX_SOCKET": str(self.socket)}

    @property
    def trust(self) -> ssl.SSLContext | bool:
        return True if self.authority is None else ssl.create_default_context(cafile=str(self.authority))


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, sandbox: SandboxProcess, add_login: AddLogin, tmp_path: Path) -> Iterator[Way]:
    add_login("alice")
    authority = path = None
    options: list[str] = []
    if request.param == "TLS":
        authority = tmp_path / "authority.pem"
        options = certificates(tmp_path, authority)
    elif request.param == "a Unix socket":
        path = tmp_path / "gateway.sock"
        options = ["--uds", str(path)]
    with running_server("serve", tmp_path, *options) as server:
        url = server.url
        if authority is not None:
            url = url.replace("http:", "https:")
        elif path is not None:
            url = "http://gateway.local"
        yield Way(url, tokenferry("token", "--gateway").out.strip(), server, authority, path)


def certificates(folder: Path, authority: Path) -> list[str]:
    """Make an authority and a certificate of it; give the options that name the latter."""
    signing = trustme.CA()
    signing.cert_pem.write_to_path(str(authority))
    issued = signing.issue_cert("127.0.0.1")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    key.touch(0o600)
    key.write_bytes(issued.private_key_pem.bytes())
    return ["--tls-cert", str(certificate), "--tls-key", str(key)]


@pytest.fixture
def door() -> Iterator[ClosedDoor]:
    with closed_door() as door:
        yield door
    assert door.asked == []


@pytest.fixture
def claude(way: Way, door: ClosedDoor, tmp_path: Path) -> Claude:
    person = tmp_path / "claude"
    person.mkdir(mode=0o700)
    return Claude(person, door.url, way.authority)


def check_upstream(sandbox: SandboxProcess, count: int) -> None:
    arrived = sandbox.requests("/v1/messages")
    assert [(one["status"], one["account"], len(one["credentials"])) for one in arrived] == [(200, "alice", 1)] * count
    assert sandbox.counters()["refreshes"] == 1


def test_claude_code(way: Way, claude: Claude, sandbox: SandboxProcess) -> None:
    outcome = end(claude.begin("-p", "hi", **way.variables))
    assert (outcome.code, outcome.out.strip()) == (0, ANSWER), outcome
    check_upstream(sandbox, 1)
    (arrived,) = sandbox.requests("/v1/messages")
    session = dict(arrived["headers"])["x-claude-code-session-id"]
    eventually(lambda: session in way.server.log.read_text(), "the access log, written in batches, names the session")


def test_claude_code_that_is_killed_ends_the_upstreams_work(way: Way, claude: Claude, sandbox: SandboxProcess) -> None:
    sandbox.fault("slow", path="/v1/messages", seconds=600)
    process = claude.begin("-p", "hi", **way.variables)
    eventually(lambda: sandbox.requests("/v1/messages"), "the request has arrived")
    assert sandbox.counters()["cancelled"] == 0
    process.kill()
    process.communicate()
    eventually(lambda: sandbox.counters()["cancelled"] == 1, "the upstream stopped")


def test_the_python_sdk(way: Way, sandbox: SandboxProcess) -> None:
    path = None if way.socket is None else str(way.socket)
    transport = httpx2.HTTPTransport(uds=path, verify=way.trust)
    with (
        httpx2.Client(transport=transport, trust_env=False) as http,
        anthropic.Anthropic(base_url=way.url, auth_token=way.key, max_retries=0, http_client=http) as client,
    ):
        message = client.messages.create(model=MODEL, max_tokens=50, messages=QUESTION)
        assert [block.text for block in message.content if block.type == "text"] == [ANSWER]
        with client.messages.stream(model=MODEL, max_tokens=50, messages=QUESTION) as stream:
            assert stream.get_final_text() == ANSWER
    check_upstream(sandbox, 2)


async def test_the_asynchronous_python_sdk(way: Way, sandbox: SandboxProcess) -> None:
    path = None if way.socket is None else str(way.socket)
    transport = httpx2.AsyncHTTPTransport(uds=path, verify=way.trust)
    async with (
        httpx2.AsyncClient(transport=transport, trust_env=False) as http,
        anthropic.AsyncAnthropic(base_url=way.url, auth_token=way.key, max_retries=0, http_client=http) as client,
        client.messages.stream(model=MODEL, max_tokens=50, messages=QUESTION) as stream,
    ):
        assert await stream.get_final_text() == ANSWER
    check_upstream(sandbox, 1)


@pytest.mark.parametrize("way", ["TCP", "TLS"], indirect=True)
def test_the_python_sdk_as_it_comes(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """It learns of the authority as any OpenSSL program does."""
    if way.authority is not None:
        monkeypatch.setenv("SSL_CERT_FILE", str(way.authority))
    with anthropic.Anthropic(base_url=way.url, api_key=way.key, max_retries=0) as client:
        message = client.messages.create(model=MODEL, max_tokens=50, messages=QUESTION)
    assert [block.text for block in message.content if block.type == "text"] == [ANSWER]


@pytest.mark.parametrize("way", ["TCP", "TLS"], indirect=True)
def test_the_typescript_sdk(way: Way, sandbox: SandboxProcess) -> None:
    if not (MODULES / "@anthropic-ai/sdk").is_dir():
        lacking("the npm package @anthropic-ai/sdk")
    authority = "" if way.authority is None else str(way.authority)
    script = str(CHILDREN / "ask.mjs")
    outcome = end(begin(program("node"), script, way.url, way.key, NODE_EXTRA_CA_CERTS=authority))
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert (told["plain"], told["streamed"], told["told"]) == (ANSWER, ANSWER, ["NotFoundError", 404])
    assert told["counted"] > 0
    assert told["models"] > 0
    assert sandbox.counters()["refreshes"] == 1


@pytest.mark.parametrize("way", ["TLS"], indirect=True)
def test_who_does_not_know_the_authority_sends_nothing(way: Way, sandbox: SandboxProcess) -> None:
    with (
        anthropic.Anthropic(base_url=way.url, auth_token=way.key, max_retries=0) as client,
        pytest.raises(anthropic.APIConnectionError),
    ):
        client.models.list()
    assert sandbox.requests("/v1") == []
