import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import typer

from cli.documents import ACCESS, document, put, settle
from cli.harness import Outcome, tokenferry
from tokenferry.cli._app import COMMANDS, app
from tokenferry.manifest import recall
from tokenferry.settings import Home

Inside: TypeAlias = Callable[..., Outcome]

OTHER = '[[providers]]\nname = "other"\nbase_url = "http://127.0.0.1:1"\n'


def leaves(command: Any) -> Iterator[Any]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield command
    for one in (inner or {}).values():
        yield from leaves(one)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_another_file_and_another_home(name: str) -> None:
    group: Any = typer.main.get_command(app)
    for command in leaves(group.get_command(typer.Context(group), name)):
        for option in ("--config", "--home"):
            assert sum(option in one.opts for one in command.params) == 1, command.name


@pytest.mark.usefixtures("home")
def test_the_file_counts_for_this_command_alone(tmp_path: Path, inside: Inside) -> None:
    file = tmp_path / "other.toml"
    file.write_text(OTHER)
    file.chmod(0o600)
    shown = inside("provider", "show", "other", "--config", str(file))
    assert (shown.code, "http://127.0.0.1:1" in shown.out) == (0, True)
    assert "TOKENFERRY_CONFIG" not in os.environ
    assert inside("provider", "show", "other").code == 4


@pytest.mark.usefixtures("home")
def test_the_options_count_before_the_command_as_well_and_for_it_alone(tmp_path: Path, inside: Inside) -> None:
    before = os.environ["TOKENFERRY_HOME"]
    file = tmp_path / "other" / "config.toml"
    file.parent.mkdir(mode=0o700)
    file.write_text(OTHER)
    file.chmod(0o600)
    for place in (("--home", str(file.parent)), ("--config", str(file))):
        assert "http://127.0.0.1:1" in inside(*place, "provider", "show", "other").out
        assert os.environ["TOKENFERRY_HOME"] == before
    assert inside("provider", "show", "other").code == 4


@pytest.mark.usefixtures("home")
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, inside: Inside) -> None:
    outcome = inside("account", "list", "--config", str(tmp_path / "none.toml"))
    assert outcome.code == 3
    assert "not found; name an existing file with --config" in outcome.one_line()


def test_a_known_token_is_not_that_of_another_configuration(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, document(time.time()))
    settle()
    assert tokenferry("token", "work").out == f"{ACCESS}\n"
    assert recall(["work"]) is not None
    monkeypatch.setenv("TOKENFERRY_CONFIG", str(tmp_path / "none.toml"))
    assert recall(["work"]) is None


@pytest.fixture
def without_home(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a person who has set no variable of tokenferry's."""
    monkeypatch.delenv("TOKENFERRY_HOME")
    return Path(os.environ["HOME"])


def test_without_a_variable_the_configuration_and_the_data_have_places_of_their_own(
    without_home: Path, inside: Inside
) -> None:
    assert inside("config", "set", "server.port", "9090").code == 0
    assert inside("key", "create", "guest").code == 0
    config, data = without_home / ".config" / "tokenferry", without_home / ".local" / "share" / "tokenferry"
    assert [path.name for path in config.iterdir()] == ["config.toml"]
    assert {"state.db", "audit.log"} <= {path.name for path in data.iterdir()}
    assert "config.toml" not in {path.name for path in data.iterdir()}
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (config, data)] == [0o700, 0o700]
    assert inside("config", "get", "server.port").out == "9090\n"


@pytest.mark.parametrize(
    "command",
    [
        ("account", "list"), ("account", "add", "new", "--provider", "anthropic"), ("token",), ("refresh",), ("serve",),
        ("status",), ("doctor",), ("key", "create", "guest"), ("run", "--", "true"), ("use", "work"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_accounts_of_the_former_place_are_named_and_nothing_is_made(
    without_home: Path, inside: Inside, command: tuple[str, ...]
) -> None:
    former = without_home / ".config" / "tokenferry"
    (former / "accounts").mkdir(parents=True)
    (former / "accounts" / "work.json").write_text("{}")
    before = sorted(without_home.rglob("*"))
    outcome = inside(*command)
    assert outcome.code == 3
    assert f"export TOKENFERRY_HOME={former}" in outcome.one_line()
    assert sorted(without_home.rglob("*")) == before


def test_a_configuration_whose_folder_others_can_write_to_is_refused(without_home: Path, inside: Inside) -> None:
    assert inside("config", "set", "server.port", "9090").code == 0
    folder = without_home / ".config" / "tokenferry"
    folder.chmod(0o777)
    outcome = inside("status")
    assert outcome.code == 8
    assert f"chmod 0755 '{folder}'" in outcome.one_line()
