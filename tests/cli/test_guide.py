"""`tokenferry setup` without a tool: what it finds, what it asks, and what each answer leaves behind."""

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.harness import Outcome, Terminal, tokenferry
from leaks import shows
from tokenferry.cli import _connect, _guide
from tokenferry.settings import Home

KEY = "sk-ant-api03-" + "Kk1" * 30
ACCESS = "sk-ant-oat01-" + "Aa1" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
POOL_ACCESS = "sk-ant-oat01-" + "Pp1" * 30
POOL_REFRESH = "sk-ant-ort01-" + "Qq1" * 30
MUX_ACCESS = "sk-ant-oat01-" + "Mm1" * 30
MUX_REFRESH = "sk-ant-ort01-" + "Nn1" * 30
SECRETS = (KEY, ACCESS, REFRESH, POOL_ACCESS, POOL_REFRESH, MUX_ACCESS, MUX_REFRESH)
EXPIRY = 1_900_000_000_000

Inside = Callable[..., Outcome]


class _Opened:
    """The files that are opened while it is switched on, and calls to the network; an audit hook can't be taken out."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self.paths is not None and isinstance(arguments[0], str | bytes | os.PathLike):
            self.paths.append(os.path.realpath(os.fsdecode(arguments[0])))
        elif event == "socket.connect":
            assert self.paths is None, "the guide sends nothing anywhere"


_opened = _Opened()
sys.addaudithook(_opened)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    _opened.paths = []
    yield _opened.paths
    _opened.paths = None


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    path.chmod(0o600)
    return path


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody who used many tools before; none of their programs is on PATH."""
    person = Path(os.environ["HOME"])
    login = {"accessToken": ACCESS, "refreshToken": REFRESH, "expiresAt": EXPIRY}
    write(person / ".claude/.credentials.json", {"claudeAiOauth": login})
    pooled = {"accessToken": POOL_ACCESS, "refreshToken": POOL_REFRESH, "expiresAt": EXPIRY}
    write(person / ".claude/oauth_pool.json", {"accounts": {"you@mail.example": pooled, "copy@mail.example": login}})
    proxied = {"type": "claude", "access_token": MUX_ACCESS, "refresh_token": MUX_REFRESH, "email": "me@mail.example"}
    write(person / ".cli-proxy-api/claude-me.json", proxied | {"expired": "2030-01-01T00:00:00Z"})
    write(person / ".cli-proxy-api/codex-me.json", {})
    write(person / ".codex/auth.json", {"tokens": {}})
    write(person / ".config/better-ccflare/better-ccflare.db", "")
    write(person / ".config/opencode/opencode.json", '{\n  // mine\n  "model": "x",\n}\n')
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ZAI_API_KEY", "z")
    monkeypatch.setenv("PATH", "/nowhere")
    return person


def contents(person: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in person.rglob("*") if path.is_file()}


def names(inside: Inside) -> dict[str, str]:
    found = inside("setup", "--json").json["found"]
    return {one["where"]: ", ".join(one["accounts"]) for one in found if one["accounts"]}


def within(path: str, folder: Path) -> bool:
    return path.startswith(f"{os.path.realpath(folder)}/")


def test_without_a_terminal_it_opens_nothing_and_says_what_it_would_ask(
    person: Path, home: Home, inside: Inside, opened: list[str]
) -> None:
    write(person / ".gemini/settings.json", {})
    before = contents(person)
    opened.clear()
    outcome = inside("setup")
    assert [path for path in opened if within(path, person)] == []
    assert outcome.code == 9
    assert outcome.err.endswith("nothing was read and nothing was changed; run this in a terminal: tokenferry setup\n")
    assert outcome.hides(*SECRETS)
    asked = outcome.out.partition("In a terminal you would be asked:\n")[2].splitlines()
    assert [line.split("?")[0].strip() for line in asked] == [
        "Attach Claude Code's login in ~/.claude/.credentials.json",
        "Store a copy of what is in ANTHROPIC_API_KEY",
        "Look into ~/.claude/oauth_pool.json, and compare it with the logins that stay in place",
        "Look into ~/.cli-proxy-api/claude-me.json, and compare it with the logins that stay in place",
        "Connect Claude Code",
        "Connect Codex",
        "Connect OpenCode",
        "Connect Gemini CLI",
    ]
    for line in (
        "~/.cli-proxy-api/codex-me.json it stays CLIProxyAPI's; the gateway does not serve",
        "~/.codex/auth.json it stays Codex's; the gateway does not serve",
        "~/.config/better-ccflare/better-ccflare.db its database is not read; log in once more: tokenferry login",
        "ZAI_API_KEY add it with: printenv ZAI_API_KEY | tokenferry provider add z.ai",
    ):
        assert line in re.sub(r" {2,}", " ", outcome.out)
    assert contents(person) == before
    assert not home.accounts.exists()


def test_json_lists_what_was_found_and_asks_nothing(person: Path, inside: Inside, opened: list[str]) -> None:
    write(person / ".gemini/settings.json", {})
    opened.clear()
    outcome = inside("setup", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert [path for path in opened if within(path, person)] == []
    found = {one["where"]: one for one in outcome.json["found"]}
    assert found["ANTHROPIC_API_KEY"]["action"] == "store"
    assert found[str(person / ".claude/.credentials.json")]["action"] == "attach"
    pool = found[str(person / ".claude/oauth_pool.json")]
    assert (pool["action"], pool["stops"]) == ("take-over", "every program that uses this pool file")
    states = {one["tool"]: one["state"] for one in outcome.json["tools"]}
    assert states == dict.fromkeys(("claude-code", "codex", "opencode", "gemini-cli"), "can be connected")
    assert len(outcome.json["questions"]) == 8
    assert inside("setup", "--json", "gemini-cli").code == 2


def test_where_nothing_is_there_is_nothing_to_ask(inside: Inside, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    outcome = inside("setup")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("found no key, no login and no tool")
    assert "tokenferry account add work" in outcome.out


@pytest.mark.parametrize("said", ["", "n", "no", "x", "all"])
def test_whatever_is_no_yes_opens_nothing_and_leaves_all_as_it_is(
    person: Path, inside: Inside, opened: list[str], monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    before = contents(person)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(_guide, "answer", lambda _question: said)
    opened.clear()
    assert inside("setup").code == 0
    assert [path for path in opened if within(path, person)] == []
    assert contents(person) == before
    home = Home.from_environment()
    assert not any(path.exists() for path in (home.accounts, home.attached, home.setup, home.local_key))


def test_a_file_is_opened_after_the_yes_about_it_and_no_other(
    person: Path, inside: Inside, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    seen: dict[str, list[str]] = {}
    last = ""

    def answer(question: str) -> str:
        nonlocal last
        seen[last] = sorted({path.removeprefix(f"{person}/") for path in opened if within(path, person)})
        opened.clear()
        last = question.partition("?")[0]
        return "y" if question.startswith(("Store", "Look into ~/.cli", "Connect")) else ""

    monkeypatch.setattr(_guide, "answer", answer)
    monkeypatch.setattr(_connect, "confirmed", lambda _question, **_flag: bool(answer("after Claude Code")) and False)
    assert inside("setup").code == 0
    assert {question: paths for question, paths in seen.items() if paths} == {
        "Look into ~/.cli-proxy-api/claude-me.json, and compare it with the logins that stay in place": [
            ".claude/.credentials.json",
            ".cli-proxy-api/claude-me.json",
        ],
        "Connect Claude Code": [".claude/settings.json"],
        "Connect Codex": [".codex/config.toml"],
        "Connect OpenCode": [".config/opencode/opencode.json"],
    }
    assert len(seen) > 6


def prompt(terminal: Terminal, text: str, answer: str) -> None:
    terminal.wait_for(text)
    terminal.type(f"{answer}\n")
    terminal.shown = ""


def test_a_key_press_stores_a_key_attaches_a_login_and_connects_a_tool(
    person: Path, home: Home, inside: Inside
) -> None:
    settings = person / ".config/opencode/opencode.json"
    before = settings.read_bytes()
    terminal = Terminal("setup", PATH="/nowhere")
    prompt(terminal, "Attach Claude Code's login in ~/.claude/.credentials.json? It stays where it is. [y/N] ", "y")
    prompt(terminal, "Store a copy of what is in ANTHROPIC_API_KEY? [y/N] ", "y")
    prompt(terminal, "Look into ~/.claude/oauth_pool.json", "")
    prompt(terminal, "Look into ~/.cli-proxy-api/claude-me.json", "n")
    prompt(terminal, "Connect Claude Code?", "")
    prompt(terminal, "Connect Codex?", "")
    prompt(terminal, "Connect OpenCode?", "y")
    prompt(terminal, "Make this change? [y/N] ", "y")
    terminal.wait_for("tokenferry serve")
    assert terminal.end() == 0
    assert shows(terminal.shown, *SECRETS) == []
    assert set(names(inside)) == {str(person / ".claude/.credentials.json"), "ANTHROPIC_API_KEY"}
    assert "// mine" in settings.read_text()
    assert f"{{file:{home.local_key}}}" in settings.read_text()
    assert home.local_key.stat().st_mode & 0o777 == 0o600
    # A second time it says what is done, and asks for the rest alone.
    again = inside("setup")
    assert again.code == 9
    assert "already here as claude-code" in again.out
    assert "already here as anthropic-key" in again.out
    assert "connected; take it back with: tokenferry setup opencode --undo" in again.out
    asked = again.out.partition("In a terminal you would be asked:\n")[2]
    assert [line.split()[0] for line in asked.splitlines()] == ["Look", "Look", "Connect", "Connect"]
    assert inside("setup", "opencode", "--undo", "--yes").code == 0
    assert settings.read_bytes() == before


@pytest.mark.parametrize("typed", ["you@mail.example", "", "y", "yes"])
def test_a_token_family_is_taken_over_by_its_typed_name_alone(person: Path, inside: Inside, typed: str) -> None:
    terminal = Terminal("setup", PATH="/nowhere")
    for text in ("Attach", "Store"):
        prompt(terminal, text, "")
    prompt(terminal, "Look into ~/.claude/oauth_pool.json", "y")
    terminal.wait_for("Type you@mail.example to take it over, or press Enter to leave it: ")
    assert "every program that uses this pool file must not use it: stop it first" in terminal.shown
    assert "copy@mail.example" not in terminal.shown
    terminal.type(f"{typed}\n")
    terminal.wait_for("copy@mail.example: the same login as in")
    prompt(terminal, "Look into ~/.cli-proxy-api", "")
    for text in () if "@" in typed else ("Connect Claude Code", "Connect Codex", "Connect OpenCode"):
        prompt(terminal, text, "")
    assert terminal.end() == 0
    assert names(inside).get(str(person / ".claude/oauth_pool.json"), None) == (typed if "@" in typed else None)


def test_a_login_of_cliproxyapi_is_a_subscriptions(person: Path, inside: Inside) -> None:
    terminal = Terminal("setup", PATH="/nowhere")
    for text in ("Attach", "Store", "oauth_pool"):
        prompt(terminal, text, "")
    prompt(terminal, "Look into ~/.cli-proxy-api/claude-me.json", "y")
    terminal.wait_for("CLIProxyAPI must not use it: stop it first")
    prompt(terminal, "Type me@mail.example", "ME@mail.example")
    terminal.wait_for("imported account me@mail.example")
    terminal.wait_for("account 'me@mail.example' is billed to a Claude subscription")
    assert terminal.end() == 0


def test_no_tool_is_connected_while_nothing_could_serve_it(
    person: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claude Code, say, would stop working: its own login is for itself alone."""
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    terminal = Terminal("setup", PATH="/nowhere")
    prompt(terminal, "Attach", "y")
    for text in ("oauth_pool", "cli-proxy-api"):
        prompt(terminal, text, "")
    terminal.wait_for("tools are not connected, because the gateway can't serve any request yet: ")
    assert terminal.end() == 0
    assert not home.setup.exists()


@pytest.mark.parametrize("place", [0, 2, 4])
def test_ctrl_c_at_a_question_leaves_what_was_not_answered_as_it_was(person: Path, home: Home, place: int) -> None:
    before = contents(person)
    terminal = Terminal("setup", PATH="/nowhere")
    for _ in range(place):
        prompt(terminal, "[y/N] ", "")
    terminal.wait_for("[y/N] ")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert contents(person) == before
    assert not home.accounts.exists()


def test_a_tool_whose_settings_are_broken_costs_a_line(person: Path, home: Home) -> None:
    broken = write(person / ".claude/settings.json", "{ no")
    terminal = Terminal("setup", PATH="/nowhere")
    for text in ("Attach", "Store", "oauth_pool", "cli-proxy-api"):
        prompt(terminal, text, "")
    prompt(terminal, "Connect Claude Code", "y")
    terminal.wait_for("see the lines to add by hand: tokenferry setup claude-code --print")
    prompt(terminal, "Connect Codex", "")
    prompt(terminal, "Connect OpenCode", "")
    assert terminal.end() == 0
    assert broken.read_text() == "{ no"


def test_a_link_that_leads_nowhere_costs_the_tool_alone(person: Path, home: Home) -> None:
    (person / ".claude/settings.json").symlink_to("nothing")
    terminal = Terminal("setup", PATH="/nowhere")
    for text in ("Attach", "Store", "oauth_pool", "cli-proxy-api"):
        prompt(terminal, text, "")
    prompt(terminal, "Connect Claude Code", "y")
    terminal.wait_for("is a symbolic link that leads nowhere")
    prompt(terminal, "Connect Codex", "")
    prompt(terminal, "Connect OpenCode", "")
    assert terminal.end() == 0


def test_a_tool_is_found_by_its_program(
    tmp_path: Path, home: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = write(tmp_path / "bin/opencode", "#!/bin/sh\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(program.parent))
    assert [one["tool"] for one in inside("setup", "--json").json["tools"]] == ["opencode"]


def test_each_tool_is_set_up_and_undone_by_its_command(person: Path, home: Home, inside: Inside) -> None:
    path = person / ".config/opencode/opencode.json"
    before = path.read_bytes()
    dry = inside("setup", "opencode", "--dry-run")
    assert dry.code == 0
    assert "+" in dry.out
    assert path.read_bytes() == before
    assert not home.local_key.exists()
    done = inside("setup", "opencode", "--yes")
    assert done.code == 0
    assert "no gateway of this home listens" in done.err
    assert inside("setup", "opencode", "--yes").out.startswith("OpenCode is already connected")
    (person / ".config/opencode/opencode.jsonc").write_text("{}")  # which is read last, and so written from now on
    assert inside("setup", "opencode", "--undo", "--yes").code == 0
    assert path.read_bytes() == before
    assert "no record of a setup" in inside("setup", "gemini-cli", "--undo", "--yes").one_line()


def test_codex_and_gemini_cli_are_set_up_too(person: Path, home: Home, inside: Inside) -> None:
    before = contents(person)
    assert inside("setup", "codex", "--yes").code == 0
    words = re.findall(r"(?:command|args) = (.*)", (person / ".codex/config.toml").read_text())
    command = [json.loads(words[0]), *json.loads(words[1])]
    assert shlex.join(command).endswith("token --gateway")
    printed = inside("setup", "gemini-cli", "--print")
    assert "GEMINI_API_KEY=KEY" in printed.out
    outcome = inside("setup", "gemini-cli", "--yes")
    assert outcome.code == 0
    dotenv = person / ".gemini/.env"
    assert dotenv.stat().st_mode & 0o777 == 0o600
    key = home.local_key.read_text().strip()
    assert f"GEMINI_API_KEY={key}\n" in dotenv.read_text()
    assert outcome.hides(key)
    for name in ("codex", "gemini-cli"):
        assert inside("setup", name, "--undo", "--yes").code == 0
    assert contents(person) == before


def test_lines_for_other_tools_are_printed(home: Home) -> None:
    outcome = tokenferry("setup", "aider", "--print")
    assert (outcome.code, outcome.err) == (0, "")
    assert "export ANTHROPIC_API_BASE=http://127.0.0.1:13456\n" in outcome.out
    assert 'token --gateway)"' in outcome.out
    assert "Override OpenAI Base URL: http://127.0.0.1:13456/v1\n" in tokenferry("setup", "cursor", "--print").out
