"""The order of Claude Code as `tokenferry explain credentials` tells it, and the real Claude Code's."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.claude import Claude
from e2e.parties import COMMAND, begin, end
from e2e.recorder import closed_door
from tokenferry.secret import fingerprint

pytestmark = pytest.mark.e2e

SETUP_TOKEN: Final = "sk-ant-oat01-" + "s" * 90
LOGIN_TOKEN: Final = "sk-ant-oat01-" + "l" * 90
EXCHANGED: Final = "exchanged-for-an-identity-token"
HELPED: Final = "printed-by-a-helper"
HELPER: Final = {".claude/settings.json": {"apiKeyHelper": f"echo {HELPED}"}}


def events(*data: dict[str, Any]) -> bytes:
    return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in data).encode()


ANSWER: Final = events(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "told"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
)


@dataclass
class Oracle:
    """Answers whoever asks, and keeps which credentials they showed."""

    url: str = ""
    shown: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def oracle() -> Iterator[Oracle]:
    oracle = Oracle()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/oauth/token":
                self._answer("application/json", json.dumps({"access_token": EXCHANGED, "expires_in": 3600}).encode())
                return
            names = [name for name in ("authorization", "x-api-key") if self.headers[name]]
            oracle.shown.append({name: str(self.headers[name]).removeprefix("Bearer ") for name in names})
            self._answer("text/event-stream", ANSWER)

        def do_GET(self) -> None:
            self._answer("application/json", b"{}")

        do_HEAD = do_GET  # noqa: N815  # the names the base class calls

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class names it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        oracle.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield oracle
        server.shutdown()
        thread.join()


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[Claude]:
    person = tmp_path / "claude"
    person.mkdir(mode=0o700)
    with closed_door() as door:
        yield Claude(person, door.url)


def login(expires_in: int = 36_000, **changes: Any) -> dict[str, Any]:
    section = {
        "accessToken": LOGIN_TOKEN,
        "refreshToken": "sk-ant-ort01-" + "r" * 90,
        "expiresAt": (int(time.time()) + expires_in) * 1000,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    return {".claude/.credentials.json": {"claudeAiOauth": section | changes}}


def profile(name: str, expires_in: int = 5000, **changes: Any) -> dict[str, Any]:
    tokens = {"access_token": f"token-of-{name}", "expires_at": int(time.time()) + expires_in}
    return {
        f".config/anthropic/configs/{name}.json": {"authentication": {"type": "user_oauth"}},
        f".config/anthropic/credentials/{name}.json": tokens | changes,
    }


FEDERATION: Final = {
    "ANTHROPIC_FEDERATION_RULE_ID": "rule",
    "ANTHROPIC_ORGANIZATION_ID": "organization",
    "ANTHROPIC_IDENTITY_TOKEN": "jwt",
}
FOUNDRY: Final = {
    "CLAUDE_CODE_USE_FOUNDRY": "1",
    "ANTHROPIC_FOUNDRY_BASE_URL": "@url",
    "ANTHROPIC_FOUNDRY_API_KEY": "key-of-a-cloud",
}
# In Claude Code's order: what puts each source there, as files and variables.
SOURCES: Final[dict[str, tuple[dict[str, Any], dict[str, str]]]] = {
    "cloud provider": ({}, FOUNDRY),
    "ANTHROPIC_AUTH_TOKEN": ({}, {"ANTHROPIC_AUTH_TOKEN": "auth-token"}),
    "ANTHROPIC_API_KEY": ({}, {"ANTHROPIC_API_KEY": "sk-ant-api03-key"}),
    "apiKeyHelper": (HELPER, {}),
    "CLAUDE_CODE_OAUTH_TOKEN": ({}, {"CLAUDE_CODE_OAUTH_TOKEN": SETUP_TOKEN}),
    "ANTHROPIC_PROFILE": (profile("work"), {"ANTHROPIC_PROFILE": "work"}),
    "workload identity": ({}, FEDERATION),
    "login": (login(), {}),
    "active profile": (profile("default"), {}),
}
VALUES: Final = {
    "ANTHROPIC_AUTH_TOKEN": "auth-token",
    "ANTHROPIC_API_KEY": "sk-ant-api03-key",
    "apiKeyHelper": HELPED,
    "CLAUDE_CODE_OAUTH_TOKEN": SETUP_TOKEN,
    "ANTHROPIC_PROFILE": "token-of-work",
    "workload identity": EXCHANGED,
    "login": LOGIN_TOKEN,
    "active profile": "token-of-default",
    "ANTHROPIC_CUSTOM_HEADERS": "header-of-ones-own",
}
NAMES: Final = tuple(SOURCES)


def put(claude: Claude, files: dict[str, Any]) -> None:
    for name, content in files.items():
        path = claude.person / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        path.chmod(0o600)


def told(claude: Claude, variables: dict[str, str]) -> dict[str, Any]:
    """What our command says in the same home, folder and environment."""
    environment = [f"{name}={value}" for name, value in (variables | {"HOME": str(claude.person)}).items()]
    process = begin(
        "/usr/bin/env",
        "-C",
        str(claude.person),
        *environment,
        COMMAND,
        "explain",
        "credentials",
        "--for",
        "claude-code",
        "--json",
    )
    outcome = end(process)
    assert outcome.code == 0, outcome
    for value in VALUES.values():
        assert value not in outcome.out
    (program,) = json.loads(outcome.out)["programs"]
    return dict(program)


def check(claude: Claude, oracle: Oracle, files: dict[str, Any], variables: dict[str, str]) -> dict[str, Any]:
    """See that what is told is what Claude Code does; gives what is told."""
    put(claude, files)
    variables = {name: value.replace("@url", oracle.url) for name, value in variables.items()}
    variables = {"ANTHROPIC_BASE_URL": oracle.url} | variables
    oracle.shown.clear()
    before = told(claude, variables)
    outcome = end(claude.begin("-p", "hi", **variables))
    if before["winner"] == "cloud provider":
        assert oracle.shown[0] == {"x-api-key": "key-of-a-cloud"}
        return before
    source = next((one for one in before["sources"] if one["name"] == before["winner"]), None)
    if source is None or source["state"] == "fails":
        assert (outcome.code, oracle.shown) == (1, []), outcome
        return before
    assert (outcome.code, outcome.out.strip()) == (0, "told"), outcome
    assert oracle.shown[0] == {header: VALUES[name] for header, name in before["sends"].items()}
    if source["fingerprint"] is not None:
        assert source["fingerprint"] == fingerprint(VALUES[source["name"]])
    return before


@pytest.mark.parametrize("name", NAMES)
def test_each_source_alone_is_found(claude: Claude, oracle: Oracle, name: str) -> None:
    assert check(claude, oracle, *SOURCES[name])["winner"] == name


@pytest.mark.parametrize(("first", "second"), list(itertools.pairwise(NAMES)))
def test_of_two_neighbours_the_first_wins(claude: Claude, oracle: Oracle, first: str, second: str) -> None:
    files = SOURCES[second][0] | SOURCES[first][0]
    program = check(claude, oracle, files, SOURCES[second][1] | SOURCES[first][1])
    assert program["winner"] == first
    states = {one["name"]: one["state"] for one in program["sources"]}
    assert states[second] == "shadowed"


CASES: Final[dict[str, tuple[str | None, dict[str, Any], dict[str, str]]]] = {
    "nothing at all": (None, {}, {}),
    "a token and a helper": ("ANTHROPIC_AUTH_TOKEN", HELPER, {"ANTHROPIC_AUTH_TOKEN": "auth-token"}),
    "empty variables": ("login", login(), {"ANTHROPIC_AUTH_TOKEN": "", "ANTHROPIC_API_KEY": " "}),
    "blanks around": ("ANTHROPIC_API_KEY", {}, {"ANTHROPIC_API_KEY": " sk-ant-api03-key "}),
    "a cloud that is switched off": (
        "login",
        login(),
        {"CLAUDE_CODE_USE_BEDROCK": "0", "CLAUDE_CODE_USE_VERTEX": "no"},
    ),
    "settings before the environment": (
        "ANTHROPIC_AUTH_TOKEN",
        {".claude/settings.json": {"env": {"ANTHROPIC_AUTH_TOKEN": "auth-token"}}},
        {"ANTHROPIC_AUTH_TOKEN": "another"},
    ),
    "a setting that empties a variable": (
        "apiKeyHelper",
        {".claude/settings.json": {"apiKeyHelper": f"echo {HELPED}", "env": {"ANTHROPIC_AUTH_TOKEN": ""}}},
        {"ANTHROPIC_AUTH_TOKEN": "another"},
    ),
    "personal settings of a project before the user's": (
        "apiKeyHelper",
        {
            ".claude/settings.json": {"apiKeyHelper": "echo other"},
            ".claude/settings.local.json": HELPER[".claude/settings.json"],
        },
        {},
    ),
    "settings that are no JSON": (None, {".claude/settings.json": '{"apiKeyHelper": "echo x", // a comment\n}'}, {}),
    "a login without the scope": (None, login(scopes=["user:profile"]), {}),
    "a login that was logged out": (
        "active profile",
        login(accessToken="", refreshToken="", expiresAt=0) | profile("default"),
        {},
    ),
    "a profile that isn't there": ("login", login(), {"ANTHROPIC_PROFILE": "nobody"}),
    "a profile of a bad name": ("login", login(), {"ANTHROPIC_PROFILE": "../work"}),
    "a profile that has expired": (
        "ANTHROPIC_PROFILE",
        login() | profile("work", -100),
        {"ANTHROPIC_PROFILE": "work"},
    ),
    "an active profile that has expired": ("active profile", profile("default", -100), {}),
    "a profile in milliseconds": (
        "ANTHROPIC_PROFILE",
        profile("work", expires_at=(int(time.time()) + 5000) * 1000),
        {"ANTHROPIC_PROFILE": "work"},
    ),
    "a profile without tokens": (
        "login",
        login() | {".config/anthropic/configs/work.json": {"authentication": {"type": "user_oauth"}}},
        {"ANTHROPIC_PROFILE": "work"},
    ),
    "a profile of an unknown type": (
        "login",
        login() | profile("work") | {".config/anthropic/configs/work.json": {"authentication": {"type": "other"}}},
        {"ANTHROPIC_PROFILE": "work"},
    ),
    "the profile that active_config names": (
        "active profile",
        profile("work", access_token="token-of-default") | {".config/anthropic/active_config": "work\n"},
        {},
    ),
    "an identity without an organization": ("login", login(), FEDERATION | {"ANTHROPIC_ORGANIZATION_ID": ""}),
    "headers of one's own and a login": (
        "login",
        login(),
        {"ANTHROPIC_CUSTOM_HEADERS": "Authorization: Bearer header-of-ones-own"},
    ),
    "headers of one's own and a token": (
        "ANTHROPIC_AUTH_TOKEN",
        {},
        {"ANTHROPIC_CUSTOM_HEADERS": "Authorization: Bearer header-of-ones-own", "ANTHROPIC_AUTH_TOKEN": "auth-token"},
    ),
    "headers of one's own and a key": (
        "ANTHROPIC_API_KEY",
        {},
        {"ANTHROPIC_CUSTOM_HEADERS": "X-Api-Key: header-of-ones-own", "ANTHROPIC_API_KEY": "sk-ant-api03-key"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_explain_agrees_with_claude_code(claude: Claude, oracle: Oracle, case: str) -> None:
    winner, files, variables = CASES[case]
    assert check(claude, oracle, files, variables)["winner"] == winner


def test_a_login_whose_token_goes_to_a_custom_address_is_warned_of(claude: Claude, oracle: Oracle) -> None:
    program = check(claude, oracle, login(), {})
    assert [oracle.url in warning for warning in program["warnings"]] == [True]
    assert check(claude, oracle, {}, {"ANTHROPIC_AUTH_TOKEN": "auth-token"})["warnings"] == []
