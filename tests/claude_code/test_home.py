import unicodedata
from hashlib import sha256
from pathlib import Path

import pytest

from tokenferry.claude_code import ClaudeCodeHome
from tokenferry.errors import ConfigError

PERSON = Path("/home/person")


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, "/home/person/.claude"),
        ({"CLAUDE_CONFIG_DIR": "/a"}, "/a"),
        ({"CLAUDE_SECURESTORAGE_CONFIG_DIR": "/b"}, "/b"),
        ({"CLAUDE_CONFIG_DIR": "/a", "CLAUDE_SECURESTORAGE_CONFIG_DIR": "/b"}, "/b"),
        ({"CLAUDE_CONFIG_DIR": "/a", "CLAUDE_SECURESTORAGE_CONFIG_DIR": ""}, "/home/person/.claude"),
    ],
)
def test_the_folder_is_the_one_claude_code_uses(environ: dict[str, str], path: str) -> None:
    assert ClaudeCodeHome.from_environment(environ, PERSON).path == Path(path)


@pytest.mark.parametrize("value", ["", "a", "~/.claude", "./a"])
@pytest.mark.parametrize("name", ["CLAUDE_CONFIG_DIR", "CLAUDE_SECURESTORAGE_CONFIG_DIR"])
def test_a_folder_that_depends_on_the_working_directory_is_refused(name: str, value: str) -> None:
    if name == "CLAUDE_SECURESTORAGE_CONFIG_DIR" and not value:
        return  # which means the default
    with pytest.raises(ConfigError, match=f"{name} is '{value}'.* absolute path"):
        ClaudeCodeHome.from_environment({name: value}, PERSON)


def test_the_names_in_it() -> None:
    home = ClaudeCodeHome(Path("/x/.claude"))
    assert home.credentials == Path("/x/.claude/.credentials.json")
    assert home.refresh_lock == Path("/x/.claude/.oauth_refresh.lock")
    assert home.refresh_lock_owner == Path("/x/.claude/.oauth_refresh.lock.owner")
    assert home.write_lock == Path("/x/.claude/.storage-write.lock")


def test_the_second_lock_lies_beside_the_real_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert ClaudeCodeHome(tmp_path / "link").folder_lock == tmp_path / "real.lock"


def test_the_keychain_item_is_named_after_the_variable_not_the_path() -> None:
    decomposed = "/Users/jose\N{COMBINING ACUTE ACCENT}/"
    digest = sha256(unicodedata.normalize("NFC", decomposed).encode()).hexdigest()[:8]
    home = ClaudeCodeHome.from_environment({"CLAUDE_CONFIG_DIR": decomposed}, PERSON)
    assert home.keychain_service == f"Claude Code-credentials-{digest}"
    assert ClaudeCodeHome.from_environment({}, PERSON).keychain_service == "Claude Code-credentials"


@pytest.mark.parametrize("variable", [None, "/a", "/a/", "/home/person/.claude/", "/e\u0301"])
def test_a_label_names_the_folder_and_the_keychain_s_item(variable: str | None) -> None:
    home = ClaudeCodeHome.from_environment({} if variable is None else {"CLAUDE_CONFIG_DIR": variable}, PERSON)
    again = ClaudeCodeHome.of_label(home.label, PERSON)
    assert (again.path, again.keychain_service) == (home.path, home.keychain_service)
    assert again == home


def test_a_folder_is_the_one_that_a_link_to_it_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    home = ClaudeCodeHome(tmp_path / "real")
    assert home.is_at(str(tmp_path / "link"))
    assert not home.is_at(str(tmp_path / "other"))
