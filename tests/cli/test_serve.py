import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.harness import Running, begin, end, eventually, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

Login = Callable[..., dict[str, Any]]


def serving(tmp_path: Path, *arguments: str) -> tuple[Running, str]:
    file = tmp_path / "port"
    process = begin("serve", "--port", "0", "--port-file", str(file), *arguments)
    eventually(lambda: file.exists() or process.poll() is not None)
    assert process.poll() is None, end(process)
    return process, f"http://127.0.0.1:{file.read_text().strip()}"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)])
def test_it_serves_until_it_is_told_to_end(
    sandbox: Sandbox, login: Login, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    login()
    process, url = serving(tmp_path)
    key = tokenferry("token", "--gateway").out.strip()
    message = {"model": "claude-sonnet-4-5", "max_tokens": 99, "messages": [{"role": "user", "content": "ahoy"}]}
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    answer = httpx2.post(f"{url}/v1/messages", json=message, headers=headers, trust_env=False)
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


def test_a_named_configuration_stands_in_for_the_homes(sandbox: Sandbox, home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[server]\nlog_level = "error"\n[models]\na = "b"\n')
    process, _ = serving(tmp_path, "--config", str(other))
    process.terminate()
    outcome = end(process)
    assert outcome.code == 0
    assert "models accepted but without effect" in outcome.err


def test_the_sandbox_runs_and_tells_how_to_use_it(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "port"
    process = begin("sandbox", "--port", "0", "--port-file", str(file))
    eventually(file.exists)
    url = f"http://127.0.0.1:{file.read_text().strip()}"
    key = httpx2.get(f"{url}/_sandbox/issue?account=dave&kind=api-key&plain=1", trust_env=False).text
    process.terminate()
    outcome = end(process)
    assert outcome.code == 0
    assert "tokenferry accounts add dave --provider sandbox" in outcome.out
    assert url in outcome.out
    assert key.startswith("sk-ant-api03-")
    assert not file.exists()
