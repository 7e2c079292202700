"""`tokenferry help`: what an installed user reads without the pages."""

from collections.abc import Callable
from typing import Any

from cli.harness import Outcome
from tokenferry import errors
from tokenferry.cli.help import EXIT_CODES

Inside = Callable[..., Outcome]


def test_the_help_of_a_command_is_that_of_the_command(inside: Inside) -> None:
    assert inside("help", "account", "add") == inside("account", "add", "--help")
    assert inside("help") == inside("--help")
    assert "did you mean 'account'?" in inside("help", "acount").one_line()


def test_the_reference_has_every_exit_code_variable_and_place(inside: Inside) -> None:
    kinds: list[Any] = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]
    codes = {str(kind.exit_code) for kind in kinds}
    assert codes == {*EXIT_CODES} - {"0", "128+n"}
    out = inside("help", "reference").out
    for word in ("Exit codes", "TOKENFERRY_HOME", "TOKENFERRY_ACCOUNT", "config.toml", "state.db", "  7  "):
        assert word in out
