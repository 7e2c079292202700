import signal
import socket
import ssl
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from cli.harness import Outcome, Running, begin, begin_serving, end, eventually, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]
ASKED = {"model": "claude-sonnet-4-5", "max_tokens": 99, "messages": [{"role": "user", "content": "ahoy"}]}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_serves_until_it_is_asked_to_end(
    sandbox: Sandbox, login: Login, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    login()
    process, url = begin_serving(tmp_path)
    key = tokenferry("token", "--gateway").out.strip()
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    answer = httpx2.post(f"{url}/v1/messages", json=ASKED, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    process.send_signal(number)
    outcome = end(process)
    assert outcome.code == code
    assert f"listening on {url}" in outcome.out
    assert outcome.hides(key)


def test_a_port_in_use_is_a_configuration_error_that_names_the_holder(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = tokenferry("serve", "--port", str(taken.getsockname()[1]))
    assert outcome.code == 3
    assert "in use by process" in outcome.one_line()


@pytest.mark.parametrize("arguments", [["--host", "0.0.0.0"], ["--config", "/nowhere/config.toml"]])
def test_what_can_not_be_served_is_a_configuration_error(home: Home, arguments: list[str]) -> None:
    outcome = tokenferry("serve", *arguments)
    assert outcome.code == 3
    assert outcome.one_line()


def test_a_named_configuration_replaces_the_homes(sandbox: Sandbox, home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[server]\nlog_level = "error"\napi_key = "b"\n')
    process, _ = begin_serving(tmp_path, "--config", str(other))
    process.terminate()
    outcome = end(process)
    assert outcome.code == 0
    assert "server.api_key is a key of claude-code-mux that has no effect here" in outcome.err


def test_the_sandbox_runs_and_tells_how_to_use_it(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "port"
    process = begin("sandbox", "--port", "0", "--port-file", str(file))
    eventually(file.exists)
    url = f"http://127.0.0.1:{file.read_text().strip()}"
    key = httpx2.get(f"{url}/_sandbox/issue?account=dave&kind=api-key&plain=1", trust_env=False).text
    process.terminate()
    outcome = end(process)
    assert outcome.code == 0
    assert "tokenferry account add dave --provider sandbox" in outcome.out
    provider = outcome.out.partition("config edit:\n")[2].partition("add an account")[0]
    assert tomllib.loads(provider) == {"providers": [{"name": "sandbox", "base_url": url}]}
    assert key.startswith("sk-ant-api03-")
    assert not file.exists()


def asked_over(transport: httpx2.HTTPTransport, url: str) -> httpx2.Response:
    headers = {"x-api-key": tokenferry("token", "--gateway").out.strip(), "anthropic-version": "2023-06-01"}
    with httpx2.Client(transport=transport, trust_env=False, timeout=20) as client:
        return client.post(f"{url}/v1/messages", json=ASKED, headers=headers)


def unix_socket_of(home: Home, *arguments: str) -> tuple[Running, Path]:
    path = home.path / "gateway.sock"
    process = begin("serve", "--uds", str(path), *arguments)
    assert process.stdout is not None
    assert f"the Unix socket {path}" in "".join(process.stdout.readline() for _ in range(1 + bool(arguments)))
    return process, path


def test_it_listens_on_a_unix_socket_alone(login: Login, home: Home, inside: Inside) -> None:
    login()
    process, path = unix_socket_of(home)
    answer = asked_over(httpx2.HTTPTransport(uds=str(path)), "http://gateway.local")
    assert answer.status_code == 200, answer.text
    assert tokenferry("serve", "--uds", str(path)).one_line().startswith(f"another process listens on {path}; ")
    home.config.write_text(f'{home.config.read_text()}\n[server]\nuds = "gateway.sock"\n')
    assert f"listens on unix:{path}" in inside("status").out
    assert tokenferry("doctor").code == 0
    process.terminate()
    outcome = end(process)
    assert outcome.code == 0
    assert "http://" not in outcome.out
    assert not path.exists()
    assert "does not run; start it with: tokenferry serve" in inside("status").out


def test_a_socket_left_by_a_killed_gateway_is_replaced(login: Login, home: Home) -> None:
    login()
    process, path = unix_socket_of(home)
    process.kill()
    end(process)
    assert path.exists()
    process, path = unix_socket_of(home)
    assert asked_over(httpx2.HTTPTransport(uds=str(path)), "http://gateway.local").status_code == 200
    process.terminate()
    assert end(process).code == 0


def test_it_listens_on_both_when_a_port_is_given_too(login: Login, home: Home, tmp_path: Path) -> None:
    login()
    file = tmp_path / "port"
    process, path = unix_socket_of(home, "--port", "0", "--port-file", str(file))
    eventually(file.exists)
    url = f"http://127.0.0.1:{file.read_text().strip()}"
    assert asked_over(httpx2.HTTPTransport(), url).status_code == 200
    assert asked_over(httpx2.HTTPTransport(uds=str(path)), "http://gateway.local").status_code == 200
    assert httpx2.get(f"{url}/healthz", headers={"host": "gateway.local"}, trust_env=False).status_code == 421
    process.terminate()
    assert end(process).code == 0
    assert not file.exists()


def test_it_speaks_tls(login: Login, home: Home, tmp_path: Path, inside: Inside) -> None:
    login()
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = home.path / "cert.pem", home.path / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.touch(0o600)
    key.write_bytes(issued.private_key_pem.bytes())
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    process, url = begin_serving(tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key), "--workers", "2")
    url = url.replace("http:", "https:")
    answer = asked_over(httpx2.HTTPTransport(verify=trusting), url)
    assert answer.status_code == 200, answer.text
    port = url.rpartition(":")[2]
    home.config.write_text(
        f'{home.config.read_text()}\n[server]\nport = {port}\ntls_cert = "cert.pem"\ntls_key = "key.pem"\n'
    )
    assert f"listens on {url}" in inside("status").out
    process.terminate()
    outcome = end(process)
    assert outcome.code == 0
    assert f"listening on {url}" in outcome.out
    key.chmod(0o644)
    assert tokenferry("serve").code == 8


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--tls-cert", "a.pem"], 2, "--tls-cert and --tls-key need each other"),
        (["--uds", "a.sock", "--tls-cert", "a.pem", "--tls-key", "b.pem"], 2, "TLS needs a TCP port"),
        (["--uds", "a.sock", "--port-file", "f"], 2, "--port-file is for a TCP port"),
        (["--port", "0", "--tls-cert", "a.pem", "--tls-key", "b.pem"], 3, "a.pem not found"),
        (["--workers", "0"], 2, "--workers"),
        (["--drain", "-1"], 2, "--drain"),
        (["--drain", "2h"], 2, "from 0s to 1h"),
    ],
)
def test_what_makes_no_sense_is_reported(home: Home, arguments: list[str], code: int, reason: str) -> None:
    outcome = tokenferry("serve", *arguments)
    assert outcome.code == code
    assert reason in outcome.one_line()


def test_workers_share_keys_and_accounts(login: Login, tmp_path: Path, inside: Inside) -> None:
    login()
    process, url = begin_serving(tmp_path, "--workers", "3")
    eventually(lambda: asked_over(httpx2.HTTPTransport(), url).status_code == 200)
    key = inside("key", "create", "laptop").out.strip()
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}

    def statuses() -> set[int]:
        # A new connection each time: the workers take turns in no particular order.
        return {
            httpx2.get(f"{url}/v1/models", headers=headers, trust_env=False, timeout=20).status_code for _ in range(20)
        }

    assert statuses() == {200}
    assert inside("key", "revoke", "laptop").code == 0
    eventually(lambda: statuses() == {401})
    process.terminate()
    outcome = end(process)
    assert outcome.code == 0
    assert outcome.out.count("listening on") == 1


def test_workers_refresh_once(sandbox: Sandbox, login: Login, tmp_path: Path) -> None:
    login(expires_in=1)
    sandbox.advance(5)
    process, url = begin_serving(tmp_path, "--workers", "4")
    key = tokenferry("token", "--gateway").out.strip()
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}

    def ask(_: int) -> int:
        return httpx2.post(f"{url}/v1/messages", json=ASKED, headers=headers, trust_env=False, timeout=60).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(32))) == {200}
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1
    process.terminate()
    assert end(process).code == 0
