"""Parsing the command line: call the command, or explain in one sentence what is wrong with the arguments."""

import re
from typing import Any, Final

import typer
from typer.exceptions import TyperException

from tokenferry.cli._app import app
from tokenferry.cli._output import fail, note
from tokenferry.cli._typer import spare_conversions
from tokenferry.errors import nearest

_PYDANTIC: Final = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "it must be a whole number",
    "Input should": "it must",
}
_SECRET: Final = re.compile(r"(?=.*\d)[\w.~+=-]{24,}", re.ASCII)
_SECRET_OPTIONS: Final = {"--key", "--api-key", "--token", "--secret", "--password"}
_QUOTED: Final = re.compile(r"'([^']*)'")
_EXTRA: Final = re.compile(r"Got unexpected extra argument\S* \((?P<words>.*)\)", re.DOTALL)
_CHOICE: Final = re.compile(r"for '?(?P<option>[^':]+)'?: .*?'(?P<value>[^']*)' is not one of (?P<choices>'.*', '.*')")


def carry_out(arguments: list[str]) -> int:
    """Call the command and give its exit code. Raises what the command raises."""
    try:
        command = typer.main.get_command(app)
        spare_conversions(command)
        result = command.main(arguments, prog_name="tokenferry", standalone_mode=False, obj=arguments)
    except TyperException as fault:
        fail(_usage(fault, arguments))
        return fault.exit_code
    except typer.Abort:
        note("cancelled; nothing was changed")
        return 1
    return result if isinstance(result, int) else 0


def _usage(fault: TyperException, arguments: list[str]) -> str:
    context: Any = getattr(fault, "ctx", None)
    command = context.command_path if context is not None else "tokenferry"
    if _holds_secret(fault, arguments):
        text = "never pass a key or token as an argument, which other users see; pipe it in, or type it at the prompt"
        return f"{text}; see: {command} --help"
    if context is not None and fault.format_message().startswith("Missing command"):
        return f"{command} needs one of {', '.join(context.command.list_commands(context))}; see: {command} --help"
    text = _unknown_option(fault) or _unknown_value(fault.format_message())
    text = " ".join(text.split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}{' See' if text.endswith('?') else '; see'}: {command} --help"


def _holds_secret(fault: TyperException, arguments: list[str]) -> bool:
    """Whether an argument that the parser rejects is a credential, or an option for one."""
    if getattr(fault, "option_name", None) in _SECRET_OPTIONS:
        return True
    return fault.format_message().startswith("Got unexpected extra") and any(map(_SECRET.fullmatch, arguments))


def _unknown_option(fault: TyperException) -> str | None:
    name = getattr(fault, "option_name", None)
    if name is None or not hasattr(fault, "possibilities"):
        return None
    near = fault.possibilities
    return f"there is no option {name[:80]}" + (f"; did you mean {near[0]}?" if near else "")


def _unknown_value(message: str) -> str:
    """The parser's message; for a value outside an option's choices it suggests the nearest."""
    if extra := _EXTRA.match(message):
        return f"unexpected argument {extra['words'][:80]!r}"
    found = _CHOICE.search(message)
    if found is None:
        for words, plain in _PYDANTIC.items():
            message = message.replace(words, plain)
        return message
    choices = _QUOTED.findall(found["choices"])
    near = nearest(found["value"], choices)
    hint = f"; did you mean {near!r}?" if near else ""
    return f"{found['option']} takes {', '.join(choices[:-1])} or {choices[-1]}, not {found['value']!r}{hint}"
