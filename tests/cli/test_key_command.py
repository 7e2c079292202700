"""Accounts whose key a command prints, as the commands show them."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.harness import Outcome
from tokenferry.settings import Home

Inside = Callable[..., Outcome]

KEY = "sk-vault-0123456789abcdef"


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A program that prints a key, and notes that it ran."""
    program = tmp_path / "vault"
    program.write_text(f"#!/bin/sh\necho ran >> {tmp_path}/runs\necho $1-0123456789abcdef\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def declare(home: Home, vault: Path) -> None:
    home.config.write_text(
        f"""
        [[providers]]
        name = "mine"
        base_url = "https://llm.example.com"
        command = ["{vault}", "sk-vault"]
        command_ttl = "10m"

        [accounts.second]
        provider = "mine"
        command = ["{vault}", "sk-second"]
        """
    )
    home.config.chmod(0o600)


def test_the_key_is_printed_by_the_command_and_stored_nowhere(home: Home, inside: Inside, vault: Path) -> None:
    declare(home, vault)
    assert inside("token", "mine").out.strip() == KEY
    assert inside("token", "second").out.strip() == "sk-second-0123456789abcdef"
    rows = {row["name"]: row for row in inside("account", "list", "--json").json}
    assert (rows["mine"]["store"], rows["mine"]["state"]) == ("command", "fresh")
    assert (vault.parent / "runs").read_text().count("ran") >= 2
    kept = [path for path in home.path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert kept == []


def test_it_can_be_changed_in_the_configuration_alone(home: Home, inside: Inside, vault: Path) -> None:
    declare(home, vault)
    for arguments in (["account", "remove", "mine"], ["account", "pause", "mine"]):
        refused = inside(*arguments)
        assert refused.code == 2
        assert "comes from the command in config.toml" in refused.err


@pytest.mark.parametrize("command", [["doctor"], ["status"], ["token", "mine"], ["account", "list"]])
def test_a_command_that_fails_is_said_with_what_to_do(
    home: Home, inside: Inside, vault: Path, command: list[str]
) -> None:
    vault.write_text("#!/bin/sh\necho sk-secret-of-stderr >&2\nexit 7\n")
    declare(home, vault)
    outcome = inside(*command)
    told = " ".join((outcome.out + outcome.err).split())
    assert f"its command {vault} failed with exit code 7; run it in a terminal to see why" in told
    assert "sk-secret" not in told
