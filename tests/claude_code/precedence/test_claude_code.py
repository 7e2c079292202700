"""Claude Code's order on machines that exist only here. Against the real one it is held in tests/e2e."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tokenferry.claude_code import ClaudeCodeHome
from tokenferry.claude_code.precedence import Chain, Machine, Seen, claude_code_chain
from tokenferry.errors import TryLater

NOW: Final = 1_800_000_000
HOME: Final = Path("/home/somebody")
PROJECT: Final = HOME / "project"
USER: Final = HOME / ".claude/settings.json"
LOGIN: Final = HOME / ".claude/.credentials.json"
TOKEN: Final = "sk-ant-oat01-" + "t" * 90
LOGGED_IN: Final = {
    "claudeAiOauth": {"accessToken": TOKEN, "refreshToken": "refresh-of-login", "expiresAt": NOW + 5000}
}
ORDER: Final = (
    "cloud provider",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_API_KEY",
    "apiKeyHelper",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "ANTHROPIC_PROFILE",
    "workload identity",
    "login",
    "active profile",
)
FEDERATION: Final = {
    "ANTHROPIC_FEDERATION_RULE_ID": "rule",
    "ANTHROPIC_ORGANIZATION_ID": "organization",
    "ANTHROPIC_IDENTITY_TOKEN": "secret-jwt",
}


def machine(files: dict[Path, Any], environ: dict[str, str], **changes: Any) -> Machine:
    def look(path: Path) -> Seen:
        if path not in files:
            return Seen(path, path)
        content = files[path]
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return Seen(path, path, "file", 0o600, content=data)

    return replace(Machine(environ, HOME, PROJECT, NOW, look), **changes)


def explain(files: dict[Path, Any] | None = None, /, **environ: str) -> Chain:
    return claude_code_chain(machine(files or {}, environ))


def profile(name: str, **tokens: Any) -> dict[Path, Any]:
    folder = HOME / ".config/anthropic"
    given = {"access_token": f"secret-of-{name}", "expires_at": NOW + 5000} | tokens
    return {
        folder / f"configs/{name}.json": {"authentication": {"type": "user_oauth"}, "base_url": "https://own.example"},
        folder / f"credentials/{name}.json": given,
    }


PRESENT: Final[dict[str, tuple[dict[Path, Any], dict[str, str]]]] = {
    "cloud provider": ({}, {"CLAUDE_CODE_USE_VERTEX": "true"}),
    "ANTHROPIC_AUTH_TOKEN": ({}, {"ANTHROPIC_AUTH_TOKEN": "secret-token"}),
    "ANTHROPIC_API_KEY": ({}, {"ANTHROPIC_API_KEY": "secret-key"}),
    "apiKeyHelper": ({USER: {"apiKeyHelper": "echo secret-command"}}, {}),
    "CLAUDE_CODE_OAUTH_TOKEN": ({}, {"CLAUDE_CODE_OAUTH_TOKEN": "secret-setup-token"}),
    "ANTHROPIC_PROFILE": (profile("work"), {"ANTHROPIC_PROFILE": "work"}),
    "workload identity": ({}, FEDERATION),
    "login": ({LOGIN: LOGGED_IN}, {}),
    "active profile": (profile("default"), {}),
}


@given(st.sets(st.sampled_from(ORDER)))
def test_of_any_set_of_sources_the_first_in_order_wins_and_nothing_shows_a_secret(names: set[str]) -> None:
    files: dict[Path, Any] = {}
    environ: dict[str, str] = {}
    for name in names:
        files |= PRESENT[name][0]
        environ |= PRESENT[name][1]
    chain = claude_code_chain(machine(files, environ))
    assert tuple(source.name for source in chain.sources) == ORDER
    first = next((name for name in ORDER if name in names), None)
    assert (chain.winner.name if chain.winner else None) == first
    assert {source.name for source in chain.sources if source.state == "shadowed"} == names - {first}
    assert all(source.state == "absent" for source in chain.sources if source.name not in names)
    assert "secret" not in repr(chain)
    assert "refresh-of-login" not in repr(chain)
    assert TOKEN not in repr(chain)
    assert not {name for name in chain.sends.values() if name not in names}


def test_a_key_and_a_token_are_both_sent(tmp_path: Path) -> None:
    files = PRESENT["apiKeyHelper"][0]
    token, key = "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"
    assert explain(files).sends == {"authorization": "apiKeyHelper", "x-api-key": "apiKeyHelper"}
    assert explain(files, **{key: "k"}).sends == {"authorization": "apiKeyHelper", "x-api-key": key}
    assert explain(files, **{token: "t"}).sends == {"authorization": token, "x-api-key": "apiKeyHelper"}
    assert explain({}, **{token: "t", key: "k"}).sends == {"authorization": token, "x-api-key": key}
    assert explain({LOGIN: LOGGED_IN}, **{key: "k"}).sends == {"x-api-key": key}
    assert explain({LOGIN: LOGGED_IN}).sends == {"authorization": "login"}
    assert explain({}, **PRESENT["cloud provider"][1], **{token: "t"}).sends == {}


def test_settings_go_before_the_environment_and_the_nearest_file_first() -> None:
    managed = Path("/etc/claude-code/managed-settings.json")
    personal = PROJECT / ".claude/settings.local.json"
    shared = PROJECT / ".claude/settings.json"
    files: dict[Path, Any] = {}
    assert explain(files, ANTHROPIC_AUTH_TOKEN="x").source("ANTHROPIC_AUTH_TOKEN").where == "the environment"
    for path in (USER, shared, personal, managed):
        files[path] = {"env": {"ANTHROPIC_AUTH_TOKEN": path.name}, "apiKeyHelper": str(path)}
        chain = claude_code_chain(machine(files, {"ANTHROPIC_AUTH_TOKEN": "x"}, managed=managed))
        assert chain.source("ANTHROPIC_AUTH_TOKEN").where == str(path)
        assert chain.source("apiKeyHelper").where == str(path)


def test_personal_settings_are_those_at_the_root_of_the_repository() -> None:
    deep = PROJECT / "a/b"
    files: dict[Path, Any] = {PROJECT / ".claude/settings.local.json": {"apiKeyHelper": "x"}}
    assert claude_code_chain(machine(files, {}, folder=deep)).winner is None
    files[PROJECT / ".git"] = b"gitdir: elsewhere"
    assert claude_code_chain(machine(files, {}, folder=deep)).winner is not None


def test_the_folder_of_claude_codes_own_can_be_named() -> None:
    files = {Path("/cc/settings.json"): {"apiKeyHelper": "x"}, Path("/cc/.credentials.json"): LOGGED_IN}
    chain = explain(files, CLAUDE_CONFIG_DIR="/cc")
    assert chain.source("apiKeyHelper").where == "/cc/settings.json"
    assert chain.source("login").where == "/cc/.credentials.json"
    assert explain(files, CLAUDE_CONFIG_DIR="cc").source("login").state == "unusable"


@pytest.mark.parametrize("content", [b"{,}", b"[]", b"\xff", b'{"apiKeyHelper": "x" // no\n}'])
def test_a_settings_file_that_is_no_json_counts_for_nothing_and_is_reported(content: bytes) -> None:
    chain = explain({USER: content})
    assert chain.winner is None
    assert [str(USER) in warning for warning in chain.warnings] == [True]


def test_an_oauth_token_that_goes_to_another_host_is_warned_of() -> None:
    elsewhere = "https://user:secret-password@gateway.example/v1?key=secret"
    for name in ("CLAUDE_CODE_OAUTH_TOKEN", "login", "workload identity"):
        files, environ = PRESENT[name]
        assert explain(files, **environ).warnings == ()
        assert explain(files, **environ, ANTHROPIC_BASE_URL="https://api.anthropic.com").warnings == ()
        chain = explain(files, **environ, ANTHROPIC_BASE_URL=elsewhere)
        (warning,) = chain.warnings
        assert f"your {name} is sent to https://gateway.example/v1" in warning
        assert "secret" not in repr(chain)
    assert explain(ANTHROPIC_API_KEY="k", ANTHROPIC_BASE_URL=elsewhere).warnings == ()
    files, environ = PRESENT["ANTHROPIC_PROFILE"]
    assert explain(files, **environ).base_url == "https://own.example"
    assert "for https://own.example" in explain(files, **environ, ANTHROPIC_BASE_URL=elsewhere).warnings[0]


def test_a_gateways_key_that_goes_to_the_vendor_is_warned_of() -> None:
    files = {USER: {"apiKeyHelper": "/usr/bin/tokenferry token --gateway"}}
    assert "setup claude-code" in explain(files).warnings[0]
    assert explain(files, ANTHROPIC_BASE_URL="http://127.0.0.1:1").warnings == ()
    assert "set ANTHROPIC_BASE_URL" in explain(ANTHROPIC_AUTH_TOKEN="tfk_1").warnings[0]


def test_a_socket_and_headers_of_ones_own_are_warned_of() -> None:
    headers = "Authorization: Bearer secret-header"
    chain = explain({LOGIN: LOGGED_IN}, ANTHROPIC_CUSTOM_HEADERS=headers, ANTHROPIC_UNIX_SOCKET="/gateway.sock")
    assert chain.sends == {"authorization": "ANTHROPIC_CUSTOM_HEADERS"}
    assert ["/gateway.sock" in warning for warning in chain.warnings] == [True, False]
    assert "secret" not in repr(chain)


def test_an_expired_login_says_that_it_is_renewed_at_start_whatever_is_used() -> None:
    login = {"claudeAiOauth": LOGGED_IN["claudeAiOauth"] | {"expiresAt": NOW - 1}}
    source = explain({LOGIN: login}).source("login")
    assert (source.state, "renews it when it starts" in source.reason) == ("used", True)
    assert source.held is not None
    assert source.held.expires_at == NOW - 1
    login["claudeAiOauth"]["refreshToken"] = ""
    assert explain({LOGIN: login}).source("login").state == "fails"


def test_on_a_mac_the_login_in_the_keychain_goes_before_the_file() -> None:
    kept = json.dumps(LOGGED_IN).encode()

    def with_keychain(read: Any) -> Chain:
        return claude_code_chain(machine({LOGIN: {}}, {}, keychain=read))

    assert with_keychain(lambda _: kept).source("login").where == "the Keychain"
    assert with_keychain(lambda _: None).source("login").where == str(LOGIN)

    def locked(_: ClaudeCodeHome) -> bytes:
        raise TryLater("the Keychain is locked; unlock it")

    source = with_keychain(locked).source("login")
    assert (source.state, source.reason) == ("unusable", "the Keychain is locked; unlock it")


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=6), st.lists(st.text(max_size=3), max_size=2)
)
trees = st.recursive(values, lambda inner: st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=8)
settings_files = st.one_of(
    st.binary(max_size=20),
    trees,
    st.fixed_dictionaries({}, optional={"env": trees, "apiKeyHelper": trees}),
)


@given(
    st.dictionaries(
        st.sampled_from([USER, PROJECT / ".claude/settings.json", LOGIN, *profile("default")]), settings_files
    ),
    st.dictionaries(
        st.sampled_from(["ANTHROPIC_PROFILE", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CONFIG_DIR"]),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    ),
)
def test_whatever_is_in_the_files_there_is_an_answer(files: dict[Path, Any], environ: dict[str, str]) -> None:
    chain = explain(files, **environ)
    assert len(chain.sources) == len(ORDER)
    assert all(source.reason for source in chain.sources)
