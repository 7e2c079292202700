"""The whole of it: clients' own libraries, a gateway with a real broker, and the sandbox as the provider."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic
import httpx2
import pytest

from tokenferry.accounts import AccountList
from tokenferry.broker import Broker
from tokenferry.config import Config, load
from tokenferry.credentials import ApiKey, Credential, OAuthToken, SetupToken
from tokenferry.errors import ConfigError
from tokenferry.gateway import ERROR_MARK, REQUEST_ID, bind
from tokenferry.ledger import Ledger
from tokenferry.limits import LimitState, Window
from tokenferry.pool import Pool
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.serve import PrivateGateway, serve
from tokenferry.serve._usage import billing_of
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Scope, State, read_local_key
from tokenferry.stores import Account, Document, FileStore

MODEL = "claude-opus-4-5"
ASKED = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "ahoy"}]}
VERSION = {"anthropic-version": "2023-06-01"}
PROGRAM = """
import json, sys
from pathlib import Path
from tokenferry.config import load
from tokenferry.serve import serve
from tokenferry.settings import Home
home = Home(Path(sys.argv[1]))
say = lambda line: print(line, flush=True)
ended = serve(home, load(home.config), port=0, port_file=Path(sys.argv[2]), say=say)
print(ended.name if ended else None, flush=True)
"""


@pytest.fixture
def sandbox(tokenferry_sandbox: Sandbox) -> Sandbox:
    return tokenferry_sandbox


@pytest.fixture
def config(home: Home, sandbox: Sandbox) -> Config:
    home.config.touch(0o600)
    home.config.write_text(f'[[providers]]\nname = "sandbox"\nbase_url = "{sandbox.url}"\n')
    return load(home.config)


def add(home: Home, config: Config, name: str, credential: Credential) -> None:
    account = Account(name, "sandbox", credential.kind, created_at=1)
    store = FileStore(home)
    with store.exclusive(name, 5):
        machine = Broker.from_home(home, config).machine
        store.swap(name, None, Document(account, credential, machine=machine))


def issued(sandbox: Sandbox, name: str) -> OAuthToken:
    bundle = sandbox.issue(name)
    return OAuthToken(
        Secret(bundle["access_token"]), refresh=Secret(bundle["refresh_token"]), expires_at=int(bundle["expires_at"])
    )


@pytest.fixture
def gateway(home: Home, config: Config, sandbox: Sandbox) -> Iterator[PrivateGateway]:
    add(home, config, "alice", issued(sandbox, "alice"))
    with PrivateGateway(home, config) as gateway:
        yield gateway


def test_the_sdk_talks_through_it(gateway: PrivateGateway) -> None:
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key.reveal(), max_retries=0) as client:
        message = client.messages.create(model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "ahoy"}])
        assert "you said: ahoy" in message.content[0].text  # type: ignore[union-attr]  # the first block is text
        with client.messages.stream(
            model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "ahoy"}]
        ) as stream:
            assert "you said: ahoy" in stream.get_final_text()
        counted = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "ahoy"}])
        assert counted.input_tokens > 0
        assert [model.id for model in client.models.list() if model.id.startswith(MODEL)]
        assert client.models.retrieve(MODEL).id.startswith(MODEL)


@pytest.mark.anyio
async def test_the_asynchronous_sdk_talks_through_it(gateway: PrivateGateway) -> None:
    async with anthropic.AsyncAnthropic(
        base_url=gateway.url, auth_token=gateway.key.reveal(), api_key=None, max_retries=0
    ) as client:
        message = await client.messages.create(
            model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "ahoy"}]
        )
        assert message.stop_reason == "end_turn"
        async with client.messages.stream(
            model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "ahoy"}]
        ) as stream:
            assert "you said: ahoy" in await stream.get_final_text()


def test_a_revoked_token_is_renewed_behind_the_clients_back(gateway: PrivateGateway, sandbox: Sandbox) -> None:
    sandbox.revoke("alice", "access")
    answers = [post(gateway, ASKED) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1


def test_a_dead_login_passes_the_providers_401_and_says_why_in_the_log(
    gateway: PrivateGateway, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.revoke("alice", "family")
    refused = post(gateway, ASKED)
    assert refused.status_code == 401
    assert refused.headers["x-should-retry"] == "false"
    assert ERROR_MARK.decode() not in refused.headers
    later = post(gateway, ASKED)
    assert later.status_code == 503
    assert later.headers["x-should-retry"] == "false"
    assert "(alice: the credential was refused" in later.json()["error"]["message"]
    assert "account alice" in caplog.text
    assert sandbox.counters()["accounts"]["alice"]["reuses"] == 0


def test_a_stream_that_is_cut_is_an_error_for_the_sdk(gateway: PrivateGateway, sandbox: Sandbox) -> None:
    sandbox.fault("truncate", path="/v1/messages", account="alice", events=3, cut=True)
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key.reveal(), max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError, match="was cut"),
        client.messages.stream(model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "ahoy"}]) as stream,
    ):
        stream.until_done()


def test_a_redirect_is_a_502(gateway: PrivateGateway, sandbox: Sandbox) -> None:
    sandbox.fault("redirect", path="/v1/messages", account="alice", location="http://127.0.0.1:1/", status=307)
    assert post(gateway, ASKED).status_code == 502


def test_an_account_may_be_pinned(home: Home, config: Config, sandbox: Sandbox) -> None:
    add(home, config, "alice", issued(sandbox, "alice"))
    add(home, config, "dave", ApiKey(Secret(sandbox.api_key("dave"))))
    with PrivateGateway(home, config, account="dave") as gateway:
        assert post(gateway, ASKED).status_code == 200
    assert sandbox.requests(last=1)[0]["account"] == "dave"


def test_accounts_are_first_listed_before_there_is_a_loop_to_hold_up(home: Home, config: Config) -> None:
    threads: list[str] = []

    class Watched(Broker):
        def listing(self) -> AccountList:
            threads.append(threading.current_thread().name)
            return super().listing()

    broker = Watched(home=home, providers=config.providers)
    with PrivateGateway(home, config, broker=broker) as gateway:
        httpx2.get(f"{gateway.url}/v1/models", headers={"x-api-key": gateway.key.reveal()})
    assert threads[0] == "MainThread"
    assert set(threads[1:]) - {"tokenferry-ledger"} == {"tokenferry-gateway"}


def test_a_private_gateway_writes_its_key_nowhere(gateway: PrivateGateway, home: Home) -> None:
    assert post(gateway, ASKED).status_code == 200
    assert not home.local_key.exists()
    assert not home.state.exists()
    assert gateway.key.reveal() not in repr(vars(gateway))
    for path in home.path.rglob("*"):
        assert not path.is_file() or gateway.key.reveal().encode() not in path.read_bytes()


def test_what_a_request_used_is_in_the_ledger(home: Home, config: Config, sandbox: Sandbox) -> None:
    add(home, config, "alice", issued(sandbox, "alice"))
    with PrivateGateway(home, config) as gateway:
        usage = post(gateway, ASKED).json()["usage"]
    with Ledger(home.ledger) as ledger:
        row = ledger.rows("SELECT requests, input, output, billing FROM days")[0]
    assert tuple(row) == (1, usage["input_tokens"], usage["output_tokens"], "metered")


def test_how_a_request_is_paid_for_is_known_by_its_account(home: Home, config: Config, sandbox: Sandbox) -> None:
    store = FileStore(home)
    tokens: dict[str, tuple[str, Credential]] = {
        "key": ("anthropic", ApiKey(Secret("sk-ant-api03-" + "k" * 90))),
        "setup": ("anthropic", SetupToken(Secret("sk-ant-oat01-" + "s" * 90))),
        "max": ("claude-max", issued(sandbox, "alice")),
    }
    for name, (provider, credential) in tokens.items():
        with store.exclusive(name, 5):
            store.swap(name, None, Document(Account(name, provider, credential.kind, created_at=1), credential))
    pool = Pool()
    billing = billing_of(Broker.from_home(home, config), pool)
    accounts = [(provider, name) for name, (provider, _) in tokens.items()]
    assert [billing(*one) for one in accounts] == ["metered", "plan", "plan"]
    overage = Window("overage", "allowed")
    pool.usage.note("max", LimitState(windows=(Window("5h"),), overage=overage, representative_claim="overage"), 0)
    assert [billing(*one) for one in accounts] == ["metered", "plan", "overage"]
    assert billing("nobody", "") == "metered"


def test_a_damaged_ledger_harms_no_request(
    home: Home, config: Config, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    add(home, config, "alice", issued(sandbox, "alice"))
    home.ledger.touch(0o600)
    home.ledger.write_bytes(b"no database" * 500)
    with PrivateGateway(home, config) as gateway:
        assert post(gateway, ASKED).status_code == 200
    assert "usage is not recorded" in caplog.text
    assert home.ledger.read_bytes() == b"no database" * 500


def test_a_private_gateway_uses_the_recorded_cooldowns_and_adds_to_them(
    home: Home, config: Config, sandbox: Sandbox
) -> None:
    for name in ("alice", "bob"):
        add(home, config, name, issued(sandbox, name))
    until = int(time.time()) + 3600
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", "alice"), "window", "answer", until, "It is limited."))
        sandbox.settings("bob", limits={"5h": {"status": "rejected", "reset_in": 3600}})
        with PrivateGateway(home, config) as gateway:
            answer = post(gateway, ASKED)
        assert answer.status_code == 429
        assert "alice: it is limited" in answer.json()["error"]["message"]
        assert [one.scope.name for one in state.cooldowns.list()] == ["alice", "bob"]
    assert [one["account"] for one in sandbox.requests() if one["path"] == "/v1/messages"] == ["bob"]


def test_a_private_gateway_serves_where_the_state_can_not_be_read(
    home: Home, config: Config, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    add(home, config, "alice", issued(sandbox, "alice"))
    home.state.write_bytes(b"no database at all, but as long as the head of one has to be" * 20)
    home.state.chmod(0o600)
    with PrivateGateway(home, config) as gateway:
        assert post(gateway, ASKED).status_code == 200
    assert "cooldowns are not shared with other processes" in caplog.text


def test_an_account_that_is_added_serves_at_once(home: Home, config: Config, sandbox: Sandbox) -> None:
    with PrivateGateway(home, config) as gateway:
        before = post(gateway, ASKED)
        assert before.status_code == 503
        assert "tokenferry account add NAME --provider anthropic" in before.json()["error"]["message"]
        add(home, config, "alice", issued(sandbox, "alice"))
        while (answer := post(gateway, ASKED)).status_code == 503:
            assert answer.json()["error"]["message"] == before.json()["error"]["message"]
        assert answer.status_code == 200


def post(gateway: PrivateGateway, document: object) -> httpx2.Response:
    headers = {**VERSION, "authorization": f"Bearer {gateway.key.reveal()}"}
    return httpx2.post(f"{gateway.url}/v1/messages", json=document, headers=headers, timeout=20)


class Served:
    """`serve` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port_file: Path) -> None:
        self.process = process
        assert process.stdout is not None
        self.said = [process.stdout.readline().strip() for _ in range(3)]
        assert self.said[2], f"it ended: {self.said}"
        self.port = int(port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}"

    def end(self, *signals: signal.Signals) -> tuple[int, str]:
        for number in signals:
            self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, output.strip()


@contextmanager
def served(home: Home, port_file: Path) -> Iterator[Served]:
    arguments = [sys.executable, "-c", PROGRAM, str(home.path), str(port_file)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        yield Served(process, port_file)
    finally:
        process.kill()
        process.communicate()


def test_it_says_where_it_listens_and_serves_the_local_key(
    home: Home, config: Config, sandbox: Sandbox, tmp_path: Path
) -> None:
    add(home, config, "alice", issued(sandbox, "alice"))
    port_file = tmp_path / "port"
    with served(home, port_file) as running:
        assert running.said == [
            f"listening on {running.url}",
            f"client key in {home.local_key} (shown by: tokenferry token --gateway)",
            "accounts: alice (sandbox)",
        ]
        assert port_file.read_text() == f"{running.port}\n"
        key = read_local_key(home)
        assert key is not None
        answer = httpx2.post(
            f"{running.url}/v1/messages", json=ASKED, headers={**VERSION, "x-api-key": key.reveal()}, timeout=20
        )
        assert answer.status_code == 200
        assert answer.headers[REQUEST_ID.decode()]
        with State(home.state) as state:
            _, other = state.keys.create("laptop")
        headers = {**VERSION, "x-api-key": other.reveal()}
        assert httpx2.get(f"{running.url}/v1/models", headers=headers, timeout=20).status_code == 200
        assert running.end(signal.SIGTERM) == (0, "SIGTERM")
    with State(home.state) as state:
        assert all(key.last_used_at is not None for key in state.keys.list())


def test_without_accounts_it_says_how_to_add_one(home: Home, config: Config, tmp_path: Path) -> None:
    with served(home, tmp_path / "port") as running:
        assert running.said[2] == "no account yet; add one with: tokenferry account add NAME --provider anthropic"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_let_an_answer_end_first(
    home: Home, config: Config, sandbox: Sandbox, tmp_path: Path, number: signal.Signals
) -> None:
    add(home, config, "alice", issued(sandbox, "alice"))
    sandbox.fault("slow", path="/v1/messages", account="alice", seconds=0.02)
    with served(home, tmp_path / "port") as running:
        key = read_local_key(home)
        assert key is not None
        headers = {**VERSION, "x-api-key": key.reveal()}
        with httpx2.stream(
            "POST", f"{running.url}/v1/messages", json={**ASKED, "stream": True}, headers=headers, timeout=20
        ) as answer:
            chunks = answer.iter_raw()
            text = next(chunks)
            running.process.send_signal(number)
            text += b"".join(chunks)
        assert b"message_stop" in text
        assert b"event: error" not in text
        assert running.end() == (0, number.name)


def test_a_second_signal_ends_it_at_once_but_truthfully(
    home: Home, config: Config, sandbox: Sandbox, tmp_path: Path
) -> None:
    add(home, config, "alice", issued(sandbox, "alice"))
    sandbox.fault("slow", path="/v1/messages", account="alice", seconds=3600, events=3)
    with served(home, tmp_path / "port") as running:
        key = read_local_key(home)
        assert key is not None
        headers = {**VERSION, "x-api-key": key.reveal()}
        with httpx2.stream(
            "POST", f"{running.url}/v1/messages", json={**ASKED, "stream": True}, headers=headers, timeout=20
        ) as answer:
            chunks = answer.iter_raw()
            text = next(chunks)
            running.process.send_signal(signal.SIGINT)
            running.process.send_signal(signal.SIGTERM)
            text += b"".join(chunks)
        assert b"event: error" in text
        assert running.end()[0] == 0
    sandbox.clear()


def test_a_port_in_use_names_its_holder(home: Home, config: Config) -> None:
    with bind("127.0.0.1", 0) as sock, pytest.raises(ConfigError, match=f"in use by process {os.getpid()} "):
        serve(home, config, port=sock.getsockname()[1])


def test_it_listens_on_loopback_alone(home: Home, config: Config) -> None:
    with pytest.raises(ConfigError, match="is not a loopback address"):
        serve(home, config, host="0.0.0.0", port=0)
    assert not home.local_key.exists()


def test_it_leaves_no_core_dump(home: Home, config: Config, tmp_path: Path) -> None:
    with served(home, tmp_path / "port") as running:
        limits = Path(f"/proc/{running.process.pid}/limits").read_text().splitlines()
        (core,) = [line for line in limits if line.startswith("Max core file size")]
        assert core.split()[4] == "0"
        (files,) = [line for line in limits if line.startswith("Max open files")]
        assert int(files.split()[3]) >= min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def test_nothing_it_says_or_logs_is_secret(
    home: Home, config: Config, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    token = issued(sandbox, "alice")
    add(home, config, "alice", token)
    with caplog.at_level("DEBUG"), PrivateGateway(home, config) as gateway:
        assert post(gateway, ASKED).status_code == 200
        sandbox.revoke("alice", "access")
        assert post(gateway, ASKED).status_code == 200
    text = caplog.text + json.dumps([record.__dict__ for record in caplog.records], default=repr)
    assert token.refresh is not None
    for secret in (token.secret, token.refresh, gateway.key):
        assert secret.reveal() not in text
        assert secret.reveal()[13:33] not in text
