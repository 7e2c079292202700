import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from cli.harness import Outcome, tokenferry
from leaks import shows
from tokenferry.broker import Broker
from tokenferry.cli._app import COMMANDS, PANELS, app
from tokenferry.cli._logs import logs_on_stderr, redactor, set_level
from tokenferry.secret import Secret
from tokenferry.settings import Home

Inside = Callable[..., Outcome]


def every_command() -> Iterator[list[str]]:
    """Each command and group, and each command of a group."""
    root: Any = typer.main.get_command(app)
    for name in COMMANDS:
        command = root.get_command(typer.Context(root), name)
        yield [name]
        yield from ([name, inner] for inner in getattr(command, "commands", ()))


def test_the_help_shows_every_command_in_its_panel_at_80_columns(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = inside("--help").out
    for panel, commands in PANELS.items():
        _, _, lines = out.partition(f"\n{panel}:\n")
        shown = [line.split() for line in lines.splitlines()[: len(commands)]]
        assert [(name, " ".join(words)) for name, *words in shown] == [*commands.items()]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("command", [*every_command()], ids=" ".join)
def test_every_command_has_help_with_examples_that_start_with_its_name(inside: Inside, command: list[str]) -> None:
    outcome = inside(*command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    _, _, examples = outcome.out.partition("Examples:\n")
    assert " ".join(["tokenferry", *command]) in examples
    assert "\x1b" not in outcome.out
    assert inside(*command, "-h") == outcome


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["acounts"], "did you mean 'account'?"),
        (["xyzzy"], "there are setup, demo, run, serve"),
        (["account"], "tokenferry account needs one of add, list, show,"),
        (["start"], "did you mean 'serve'? See: tokenferry --help"),
        (["cost"], "did you mean 'usage daily'?"),
        (["remove", "work"], "did you mean 'account remove', 'provider remove' or 'model remove'?"),
        (["account", "delete", "work"], "did you mean 'remove'?"),
        (["key", "delete", "work"], "did you mean 'revoke'?"),
        (["key", "add", "work"], "did you mean 'create'?"),
        (["account", "lst"], "did you mean 'list'?"),
        (["token", "--nope"], "there is no option --nope"),
        (["account", "add", "--knd"], "there is no option --knd; did you mean --kind?"),
        (
            ["explain", "route", "glm"],
            "unexpected argument 'glm'; see: tokenferry explain route --help",
        ),
        (
            ["key", "create", "x", "--role", "clint"],
            "client, admin, viewer or metrics, not 'clint'; did you mean 'client'?",
        ),
        (["explain", "credentials", "--for", "emacs"], "--for takes sdk or claude-code, not 'emacs'; see"),
        (["account", "show"], "see: tokenferry account show --help"),
        (["token", "--min-ttl", "soon"], "--min-ttl"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(home: Home, inside: Inside, arguments: list[str], word: str) -> None:
    outcome = inside(*arguments)
    assert outcome.code == 2
    assert word in outcome.one_line()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--key", "hunter2"],
        ["--api-key=hunter2"],
        ["sk-proj-0123456789abcdefghijklmn"],
        ["sk-ant-api03-0123456789abcdefghijklmn", "--provider", "anthropic"],
    ],
)
def test_a_key_on_the_command_line_is_refused_and_never_shown(home: Home, inside: Inside, arguments: list[str]) -> None:
    outcome = inside("account", "add", "work", *arguments)
    assert outcome.code == 2
    assert "never pass a key or token as an argument" in outcome.one_line()
    assert "hunter2" not in outcome.err
    assert "0123456789" not in outcome.err


def test_help_shows_arguments_as_people_type_them(inside: Inside) -> None:
    for command in every_command():
        usage, _, rest = inside(*command, "--help").out.partition("\n\n")
        assert not re.search(r"[{}]|\[\[|\]\]|<", usage), usage
        assert not re.search(r"<(str|int|list|path)", rest), rest
    assert "model add [OPTIONS] NAME PROVIDER/MODEL...\n" in inside("model", "add", "--help").out
    assert "explain request [OPTIONS] [ID]\n" in inside("explain", "request", "--help").out


def test_a_defect_is_a_sentence_without_a_traceback(
    home: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-ant-api03-" + "x" * 40

    def fail(*_: object, **__: object) -> None:
        redactor.know(Secret("known-secret-value"))
        raise RuntimeError(f"{secret} known-secret-value")

    monkeypatch.setattr(Broker, "resolve", fail)
    outcome = inside("token")
    assert outcome.code == 1
    assert "report" in outcome.one_line()
    monkeypatch.setenv("TOKENFERRY_DEBUG", "1")
    outcome = inside("token")
    assert "Traceback" in outcome.err
    assert "RuntimeError" in outcome.err
    assert not shows(outcome.err, secret, "known-secret-value")


def test_warnings_are_sentences_and_debug_lines_come_with_verbose_alone(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("tokenferry.somewhere")
    with logs_on_stderr():
        logger.warning("mind %s", "sk-ant-oat01-abcdefghijklmnop")
        logger.debug("unseen")
        assert capsys.readouterr().err == "tokenferry: warning: mind sk-ant-oat01-[redacted]\n"
        set_level("info")
        set_level(logging.DEBUG)
        set_level("error")
        logger.debug("seen\n%s", "tfk_abcdefghijkl")
        first, second = capsys.readouterr().err.splitlines()
        assert first.endswith("Z debug   somewhere: seen")
        assert second.endswith("Z debug   somewhere: tfk_[redacted]")
    logger.warning("nobody listens")
    assert capsys.readouterr().err == ""


def test_completion_knows_the_commands(home: Home) -> None:
    outcome = tokenferry(_TOKENFERRY_COMPLETE="complete_bash", COMP_WORDS="tokenferry re", COMP_CWORD="1")
    assert outcome.out.split() == ["refresh"]
    # The shell is told from the parent process, which here is whatever runs the tests.
    shown = tokenferry("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_TOKENFERRY_COMPLETE" in shown.out


def test_no_home_directory_is_a_configuration_error(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENFERRY_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError))
    assert inside("token").code == 3
