import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import typer

from cli.harness import Outcome
from tokenferry.cli._app import COMMANDS, app

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


def test_the_fast_way_to_a_token_leaves_another_configuration_to_the_other(
    tmp_path: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENFERRY_CONFIG", str(tmp_path / "none.toml"))
    from tokenferry.cli import _fast  # noqa: PLC0415  # as the entry does

    assert _fast.fresh_token(["work"]) is None
    assert inside("token", "work").code != 0
