import json
import os
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import configure
from cli.harness import COMMAND, Outcome, Terminal, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import GatewayRegistration

Inside = Callable[..., Outcome]
SECRET = "sk-ant-api03-of-an-older-setup-0123456789"


@pytest.fixture
def path() -> Path:
    return Path(os.environ["HOME"]) / ".claude" / "settings.json"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def put(path: Path, settings: Any) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(settings, indent=2))
    return path.read_text()


def test_it_writes_a_helper_that_works_and_the_gateways_address(
    home: Home, path: Path, registered: GatewayRegistration, inside: Inside
) -> None:
    inside("account", "add", "work", "--provider", "anthropic", stdin="sk-ant-api03-" + "k" * 40)
    outcome = tokenferry("setup", "claude-code", "--yes")
    assert (outcome.code, outcome.err) == (0, "")
    settings = read(path)
    assert settings["env"] == {"ANTHROPIC_BASE_URL": "http://127.0.0.1:13456"}
    assert str(Path(COMMAND)) in settings["apiKeyHelper"]
    # Whoever calls it, in whatever folder and environment.
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/"}
    helped = subprocess.run(
        settings["apiKeyHelper"], shell=True, capture_output=True, text=True, env=environ, cwd="/", check=True
    )
    assert helped.stdout == tokenferry("token", "--gateway").out
    assert helped.stderr == ""


def test_without_a_home_the_helper_is_given_the_place_of_the_data(
    path: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TOKENFERRY_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert inside("setup", "claude-code", "--yes").code == 0
    assert read(path)["apiKeyHelper"].startswith(f"env XDG_DATA_HOME={tmp_path}/data ")


def test_it_says_that_no_gateway_runs_and_how_to_start_one(home: Home, path: Path, inside: Inside) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    configure(home, "http://127.0.0.1:1", f"[server]\nport = {port}\n")
    outcome = inside("setup", "claude-code", "--yes")
    assert (outcome.code, read(path)["env"]["ANTHROPIC_BASE_URL"]) == (0, f"http://127.0.0.1:{port}")
    assert f"no gateway of this home listens on http://127.0.0.1:{port}; start" in outcome.err
    assert "tokenferry serve" in outcome.err


def test_it_says_that_the_gateway_has_nothing_to_serve_yet(
    home: Home, path: Path, registered: GatewayRegistration, inside: Inside
) -> None:
    assert "the gateway can serve nothing yet: there is no account yet" in inside("setup", "claude-code", "--yes").err


def test_it_says_where_the_gateway_is_when_that_is_elsewhere(
    home: Home, path: Path, registered: GatewayRegistration, inside: Inside
) -> None:
    outcome = inside("setup", "claude-code", "--url", "http://127.0.0.1:13499", "--yes")
    assert "no gateway of this home listens on http://127.0.0.1:13499; one listens on" in outcome.err


def test_a_dry_run_shows_the_change_and_makes_none(home: Home, path: Path, inside: Inside) -> None:
    before = put(path, {"apiKeyHelper": f"echo {SECRET}"})
    outcome = inside("setup", "claude-code", "--dry-run")
    assert outcome.code == 0
    assert '+  "apiKeyHelper"' in outcome.out
    assert outcome.hides(SECRET)
    assert path.read_text() == before
    assert not home.setup.exists()


def test_a_dry_run_takes_what_is_absent_for_no_obstacle(home: Home, path: Path, inside: Inside) -> None:
    login = {"accessToken": SECRET, "refreshToken": "r", "expiresAt": 1_900_000_000_000, "scopes": ["user:inference"]}
    credentials = path.with_name(".credentials.json")
    put(credentials, {"claudeAiOauth": login})
    credentials.chmod(0o600)
    assert "goes before" not in inside("setup", "claude-code", "--dry-run").err


def test_without_a_terminal_it_asks_for_a_flag(home: Home, path: Path, inside: Inside) -> None:
    outcome = inside("setup", "claude-code")
    assert outcome.code == 2
    assert "--yes" in outcome.err
    assert not path.exists()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_in_a_terminal_it_shows_the_change_and_asks(home: Home, path: Path, answer: str, code: int) -> None:
    terminal = Terminal("setup", "claude-code")
    terminal.wait_for("Make this change? [y/N]")
    terminal.type(f"{answer}\n")
    assert terminal.end() == code
    assert path.exists() is (code == 0)
    assert "\x1b[32m+" in terminal.shown


def test_undo_restores_what_was_there(home: Home, path: Path, inside: Inside) -> None:
    before = put(path, {"apiKeyHelper": f"echo {SECRET}", "model": "x"})
    assert inside("setup", "claude-code", "--yes").code == 0
    assert path.read_text() != before
    assert inside("setup", "claude-code", "--yes").out.startswith("Claude Code is already connected")
    outcome = inside("setup", "claude-code", "--undo", "--yes")
    assert outcome.code == 0
    assert outcome.hides(SECRET)
    assert path.read_text() == before
    assert "nothing to undo" in inside("setup", "claude-code", "--undo", "--yes").one_line()


def test_undo_tells_what_it_leaves(home: Home, path: Path, inside: Inside) -> None:
    inside("setup", "claude-code", "--yes")
    put(path, read(path) | {"apiKeyHelper": "mine"})
    outcome = inside("setup", "claude-code", "--undo", "--yes")
    assert outcome.code == 1
    assert "apiKeyHelper was changed since" in outcome.err
    assert read(path) == {"apiKeyHelper": "mine"}


def test_a_project_has_settings_of_ones_own(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    (root / "deep").mkdir()
    monkeypatch.chdir(root / "deep")
    assert tokenferry("setup", "claude-code", "--project", "--yes").code == 0
    assert "apiKeyHelper" in read(root / ".claude" / "settings.local.json")


def test_another_file_can_be_named(home: Home, tmp_path: Path, inside: Inside) -> None:
    named = tmp_path / "a b.json"
    outcome = inside("setup", "claude-code", "--settings", str(named), "--yes")
    assert "apiKeyHelper" in read(named)
    assert f"claude --settings {shlex.quote(str(named))}" in outcome.err


def test_claude_codes_own_folder_is_found(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: Inside
) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "cc"))
    inside("setup", "claude-code", "--yes")
    assert "apiKeyHelper" in read(tmp_path / "cc" / "settings.json")


def test_what_goes_before_it_is_reported_with_its_cure(
    home: Home, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: Inside
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", SECRET)
    put(path, {"env": {"ANTHROPIC_API_KEY": SECRET}})
    nearer = tmp_path / ".claude" / "settings.local.json"
    put(nearer, {"apiKeyHelper": "x", "env": {"ANTHROPIC_BASE_URL": "https://other.invalid"}})
    put(tmp_path / ".claude" / "settings.json", "no object")
    outcome = inside("setup", "claude-code", "--yes")
    assert outcome.code == 0
    assert "unset ANTHROPIC_AUTH_TOKEN" in outcome.err
    assert f"ANTHROPIC_API_KEY in {path} overrides apiKeyHelper" in outcome.err
    assert f"the apiKeyHelper in {nearer} overrides the one written" in outcome.err
    assert f"ANTHROPIC_BASE_URL in {nearer} overrides the one written" in outcome.err
    assert "counts for nothing" in outcome.err
    assert outcome.hides(SECRET)


def test_a_cloud_provider_goes_before_it_and_is_named_by_its_variable(
    home: Home, monkeypatch: pytest.MonkeyPatch, inside: Inside
) -> None:
    monkeypatch.setenv("CLAUDE_CODE_USE_VERTEX", "1")
    outcome = inside("setup", "claude-code", "--yes")
    assert "CLAUDE_CODE_USE_VERTEX in the environment overrides apiKeyHelper" in outcome.err
    assert "ANTHROPIC_BASE_URL" not in outcome.err


def test_directly_it_gets_an_accounts_key_and_no_gateway(home: Home, path: Path, inside: Inside) -> None:
    key = "sk-ant-api03-" + "k" * 40
    inside("account", "add", "work", "--provider", "anthropic", stdin=key)
    put(path, {"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:13456"}})
    assert inside("setup", "claude-code", "--direct", "--account", "work", "--yes").code == 0
    settings = read(path)
    assert settings["env"] == {}
    assert settings["apiKeyHelper"].endswith("token work")
    helped = subprocess.run(settings["apiKeyHelper"], shell=True, capture_output=True, text=True, check=True)
    assert helped.stdout.strip() == key


def test_directly_another_provider_comes_with_its_address(
    home: Home, path: Path, sandbox: Sandbox, inside: Inside
) -> None:
    inside("account", "add", "dave", "--provider", "sandbox", stdin=sandbox.api_key("dave"))
    assert inside("setup", "claude-code", "--direct", "--yes").code == 0
    assert read(path)["env"] == {"ANTHROPIC_BASE_URL": sandbox.url}
    assert read(path)["apiKeyHelper"].endswith("token")


def test_directly_a_token_is_refused(home: Home, path: Path, login: Callable[..., Any], inside: Inside) -> None:
    login("work")
    assert "leave --direct out" in inside("setup", "claude-code", "--direct", "--yes").one_line()
    assert not path.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--account", "work"),
        ("--direct", "--url", "http://127.0.0.1:1"),
        ("--undo", "--url", "http://127.0.0.1:1"),
        ("--project", "--settings", "x"),
        ("--url", "http://gateway.example"),
        ("--url", "ftp://127.0.0.1"),
    ],
)
def test_options_that_make_no_sense_together_are_a_usage_error(
    home: Home, path: Path, inside: Inside, arguments: tuple[str, ...]
) -> None:
    assert inside("setup", "claude-code", *arguments, "--yes").code == 2
    assert not path.exists()


def test_settings_with_comments_are_refused_by_their_line(home: Home, path: Path, inside: Inside) -> None:
    path.parent.mkdir()
    path.write_text('{\n  // mine\n  "model": "x"\n}')
    outcome = inside("setup", "claude-code", "--yes")
    assert outcome.code == 8
    assert "line 2" in outcome.one_line()
