"""Every block of the README, in order, in one home, against the sandbox."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.harness import COMMAND, PATIENCE
from cli.serving import serving
from tokenferry.broker import Broker
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PORT = "13456"
IDENTITY = "/var/run/secrets/anthropic/token"
CONFIG = """
[server]
port = {port}

[[providers]]
name = "anthropic"
base_url = "{url}"
[providers.oauth]
federation_url = "{url}/v1/oauth/token"

[[providers]]
name = "console"
base_url = "{url}"
[providers.oauth]
authorization_endpoint = "{url}/oauth/authorize"
token_endpoint = "{url}/v1/oauth/token"
profile_url = "{url}/api/oauth/profile"
authorize_parameters = {{ login_hint = "alice" }}
"""
ASKS = (
    "print(client.messages.create(model='claude-sonnet-4-5', max_tokens=9, "
    "messages=[{'role': 'user', 'content': 'Hello'}]).content)\n"
)
CLAUDE = '#!/bin/sh\ntest -n "$ANTHROPIC_AUTH_TOKEN" && test -n "$ANTHROPIC_BASE_URL" && echo Claude has started\n'
BROWSER = '#!/bin/sh\ncurl -sS -L -c {jar} -b {jar} "$1"\n'


def blocks() -> list[tuple[str, str]]:
    """The language, or none for a shell's, and the text."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    found: list[tuple[str, str]] = []
    for number, part in enumerate(re.split(r"^```(\w*)$", page, flags=re.MULTILINE)):
        if number % 4 == 1:
            language = part
        elif number % 4 == 2 and language:
            found.append((language, part.lstrip("\n")))
        elif number % 4 == 0:
            shell = re.findall(r"(?:^ {4}.*\n)+", part, flags=re.MULTILINE)
            found += [("", re.sub(r"^ {4}", "", text, flags=re.MULTILINE)) for text in shell]
    return found


class Reader:
    """A person who does what the page says, with what it can't say: keys, files and a browser."""

    def __init__(self, home: Home, sandbox: Sandbox, tmp_path: Path) -> None:
        self.home, self.sandbox, self.folder = home, sandbox, tmp_path
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        home.config.write_text(CONFIG.format(port=self.port, url=sandbox.url))
        home.config.chmod(0o600)
        programs = tmp_path / "bin"
        programs.mkdir()
        for name, script in (("claude", CLAUDE), ("browser", BROWSER.format(jar=tmp_path / "jar"))):
            (programs / name).write_text(script)
            (programs / name).chmod(0o700)
        self.identity = tmp_path / "identity"
        self.identity.write_text(sandbox.identity_token("carol"))
        login = sandbox.issue("bob", expires_in=3600)
        claude = Path(os.environ["HOME"]) / ".claude"
        claude.mkdir(mode=0o700)
        kept = {
            "accessToken": login["access_token"],
            "refreshToken": login["refresh_token"],
            "expiresAt": int(login["expires_at"]) * 1000,
            "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
        }
        (claude / ".credentials.json").write_text(json.dumps({"claudeAiOauth": kept}))
        (claude / ".credentials.json").chmod(0o600)
        self.has_login = json.dumps(sandbox.issue("carol", expires_in=-60))
        path = f"{programs}:{Path(COMMAND).parent}:{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "BROWSER": str(programs / "browser")}

    def shell(self, text: str) -> str:
        text = text.replace(PORT, str(self.port)).replace(IDENTITY, str(self.identity))
        text = re.sub(r"echo '\{.*\}'", f"echo '{self.has_login}'", text).replace("…", "x")
        text = text.replace("setup claude-code", "setup claude-code --yes")  # the answer to its question
        return self._run(["sh", "-euc", text], text)

    def python(self, text: str) -> str:
        text = text.replace(PORT, str(self.port)) + ASKS
        variables = {} if "base_url" in text else {"ANTHROPIC_BASE_URL": self.sandbox.url}
        return self._run([sys.executable, "-c", text], text, **variables)

    def toml(self, text: str) -> str:
        with self.home.config.open("a") as file:
            file.write(f"\n{text}")
        return self.shell("tokenferry config check")

    def _run(self, command: list[str], text: str, **variables: str) -> str:
        done = subprocess.run(
            command,
            input=f"{self.sandbox.api_key('alice')}\n",
            env=self.environment | variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(home: Home, tokenferry_sandbox: Sandbox, tmp_path: Path) -> Reader:
    return Reader(home, tokenferry_sandbox, tmp_path)


def test_every_block_works_in_order_in_one_home(reader: Reader, tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    said: list[str] = []
    with contextlib.ExitStack() as running:
        for language, text in blocks():
            if text.startswith(("make ", "pipx ")):
                assert all(f"\n{target}:" in makefile for target in re.findall(r"^make (\w+)", text, re.MULTILINE))
            elif language:
                said.append(reader.python(text) if language == "python" else reader.toml(text))
            else:
                before, serve, after = text.partition("tokenferry serve ")
                said.append(reader.shell(before))
                if serve:
                    running.enter_context(serving(tmp_path, "--port", str(reader.port)))
                    said.append(reader.shell(after.partition("\n")[2]))
    out = "".join(said)
    assert out.count("Hello from the sandbox") == 3
    assert "Claude has started" in out
    assert {account.name for account in Broker.from_home(reader.home).accounts()} >= {
        "work",
        "spare",
        "ci",
        "moved",
        "mine",
    }
