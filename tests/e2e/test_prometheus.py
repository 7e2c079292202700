"""Debian's Prometheus scrapes a gateway under load: each expression of dashboard and rules gives a series."""

import contextlib
import json
import math
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from e2e.conftest import AddLogin
from e2e.parties import PATIENCE, SandboxProcess, Server, eventually, fetch, program, running, tokenferry, write_config
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

CONTRIB: Final = Path(__file__).resolve().parents[2] / "contrib"
RULES: Final = CONTRIB / "prometheus-rules.yml"
VARIABLES: Final = {"$__rate_interval": "30s", "$__range": "10m", "$provider": ".*", "$account": ".*"}
CONFIG: Final = """
[[providers]]
name = "sandbox"
base_url = "{url}"
[[prices]]
model = "claude-sonnet*"
input = 3
output = 15
[[budgets]]
limit = "20usd/day"
[metrics]
client_keys = true
"""
SCRAPE: Final = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: tokenferry
    authorization: {{credentials_file: {key}}}
    static_configs: [{{targets: ["{target}"]}}]
"""


@contextlib.contextmanager
def running_prometheus(folder: Path, gateway: Server, key: str) -> Iterator[str]:
    """Have it scrape the gateway twice a second for a block; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "key").write_text(key)
    config, log = folder / "prometheus.yml", folder / "prometheus.log"
    target = urllib.parse.urlsplit(gateway.url).netloc
    config.write_text(SCRAPE.format(rules=RULES, key=folder / "key", target=target))
    subprocess.run([program("promtool"), "check", "config", config], check=True, capture_output=True)
    arguments = [
        *(program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"),
        f"--web.listen-address={address}",
    ]
    with log.open("ab") as output, subprocess.Popen(arguments, stdout=output, stderr=output) as process:
        try:
            yield f"http://{address}"
        finally:
            process.kill()


def has_series(prometheus: str, expression: str) -> bool:
    """Whether it gives a series now whose value is a number."""
    return any(map(math.isfinite, query(prometheus, expression)))


def query(prometheus: str, expression: str) -> list[float]:
    answer = fetch(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
    return [float(one["value"][1]) for one in answer["data"]["result"]]


def is_ready(prometheus: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(query(prometheus, "up") == [1.0])
    return False


def expressions_of_the_dashboard() -> list[str]:
    panels = json.loads((CONTRIB / "grafana-dashboard.json").read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    for name, value in VARIABLES.items():
        found = [one.replace(name, value) for one in found]
    return found


def expressions_of_the_rules(prometheus: str) -> list[str]:
    """What each alert compares: it is the comparison that gives nothing while all is well."""
    groups = fetch(f"{prometheus}/api/v1/rules")["data"]["groups"]
    return [re.sub(r" [=<>!]=? [0-9.]+$", "", rule["query"]) for group in groups for rule in group["rules"]]


class Load:
    """Clients that are answered well, refused, limited and failed."""

    def __init__(self, gateway: Server, sandbox: SandboxProcess) -> None:
        self._url = f"{gateway.url}/v1/messages"
        self._sandbox = sandbox
        self._key = tokenferry("token", "--gateway").out.strip()
        self._slow = tokenferry("key", "create", "slow", "--rpm", "1").out.strip()
        self._bobs = tokenferry("key", "create", "bobs", "--account", "bob").out.strip()
        self._http = httpx2.Client(trust_env=False, timeout=30)

    def close(self) -> None:
        self._http.close()

    def ask(self, key: str, model: str = "claude-sonnet-4-5", **more: Any) -> int:
        body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], **more}
        return self._http.post(
            self._url, json=body, headers={"x-api-key": key, "anthropic-version": "2023-06-01"}
        ).status_code

    def round(self) -> None:
        assert self.ask(self._key) == self.ask(self._key, stream=True) == 200
        assert self.ask(self._key, "claude-unheard-of-1") == 200
        assert {self.ask(self._slow), self.ask(self._slow)} <= {200, 429}
        assert self.ask(self._bobs) == 429
        for fault in ("status", "cut_before"):
            given = {"status": 500} if fault == "status" else {}
            self._sandbox.fault(fault, path="/v1/messages", times=3, **given)
            assert self.ask(self._key) >= 500
            self._sandbox.clear()


def test_each_expression_gives_a_series(
    home: Home, sandbox: SandboxProcess, add_login: AddLogin, tmp_path: Path
) -> None:
    write_config(home, CONFIG.format(url=sandbox.url))
    for name in ("alice", "bob"):
        add_login(name, expires_in=28_800)
    sandbox.settings(account="bob", limits={"5h": {"status": "rejected", "utilization": 1.0, "reset_in": 7200}})
    key = tokenferry("key", "create", "prometheus", "--role", "metrics").out.strip()
    with running("serve", tmp_path) as gateway, running_prometheus(tmp_path, gateway, key) as prometheus:
        eventually(lambda: is_ready(prometheus), "Prometheus scrapes")
        with contextlib.closing(Load(gateway, sandbox)) as load:
            wanted = expressions_of_the_dashboard() + expressions_of_the_rules(prometheus)
            assert len(wanted) > 50
            deadline = time.monotonic() + PATIENCE
            while wanted and time.monotonic() < deadline:
                load.round()
                wanted = [one for one in wanted if not has_series(prometheus, one)]
            assert wanted == []
        request = urllib.request.Request(f"{gateway.url}/metrics", headers={"x-api-key": key})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            text = answer.read()
    checked = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr.decode()) == (0, "")


def test_the_rules_are_valid() -> None:
    checked = subprocess.run(
        [program("promtool"), "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
