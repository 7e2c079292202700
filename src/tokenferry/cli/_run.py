"""One command from its arguments to its exit code: errors become sentences, signals an orderly end."""

import errno
import os
import re
import sys
import traceback
from difflib import get_close_matches
from typing import Any, Final

import typer
from typer.exceptions import TyperException

from tokenferry.cli._app import app
from tokenferry.cli._logs import logs_on_stderr, redactor
from tokenferry.cli._output import fail, note, redacted
from tokenferry.cli._signals import Ended, orderly
from tokenferry.cli._typer import spare_conversions
from tokenferry.errors import TokenferryError

_LONGEST_GRANT: Final = 120.0
_PYDANTIC: Final = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "it must be a whole number",
    "Input should": "it must",
}
_SECRET: Final = re.compile(r"(?=.*\d)[\w.~+=-]{24,}", re.ASCII)
_SECRET_OPTIONS: Final = {"--key", "--api-key", "--token", "--secret", "--password"}
_QUOTED: Final = re.compile(r"'([^']*)'")
_CHOICE: Final = re.compile(r"for '?(?P<option>[^':]+)'?: .*?'(?P<value>[^']*)' is not one of (?P<choices>'.*', '.*')")


def run(arguments: list[str]) -> int:
    """Carry out a command and give its exit code, after the last grant in flight has ended. Raises nothing."""
    with logs_on_stderr(), orderly():
        try:
            code = _invoke(arguments)
            _finish_grants()
        except Ended as ended:
            code = ended.exit_code
            if not _finish_grants(0):
                note("finishing the refresh in flight…")
                _finish_grants()
    return code


def _finish_grants(timeout: float = _LONGEST_GRANT) -> bool:
    module = sys.modules.get("tokenferry.cli._home")
    if module is None:  # the command had no use for a broker
        return True
    ended: bool = module.grants_end(timeout)
    if ended:
        module.forget()
    return ended


def _invoke(arguments: list[str]) -> int:  # noqa: PLR0911  # one return for each way of ending
    try:
        command = typer.main.get_command(app)
        spare_conversions(command)
        result = command.main(arguments, prog_name="tokenferry", standalone_mode=False, obj=arguments)
        sys.stdout.flush()
    except TokenferryError as fault:
        fail(str(fault))
        return fault.exit_code
    except TyperException as fault:
        fail(_usage(fault, arguments))
        return fault.exit_code
    except typer.Abort:
        note("given up; nothing was changed")
        return 1
    except BrokenPipeError:  # the reader has gone, and needs no words
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except OSError as fault:
        return _unwritten(fault) if _is_of_stdout(fault) else _defect(fault)
    except Exception as fault:  # noqa: BLE001  # a defect is a sentence as well
        return _defect(fault)
    return result if isinstance(result, int) else 0


def _usage(fault: TyperException, arguments: list[str]) -> str:
    context: Any = getattr(fault, "ctx", None)
    command = context.command_path if context is not None else "tokenferry"
    if _holds_secret(fault, arguments):
        text = (
            "a key or token isn't read from the command line, where others can see it; pipe it in, or type it if asked"
        )
        return f"{text}; see: {command} --help"
    if context is not None and fault.format_message().startswith("Missing command"):
        return f"{command} needs one of {', '.join(context.command.list_commands(context))}; see: {command} --help"
    text = _unknown_option(fault) or _unknown_value(fault.format_message())
    text = " ".join(text.split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}{' See' if text.endswith('?') else '; see'}: {command} --help"


def _holds_secret(fault: TyperException, arguments: list[str]) -> bool:
    """Whether what isn't understood is a credential, or an option to give one with."""
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
    """The message; where a value is none of those that an option takes, with the nearest."""
    found = _CHOICE.search(message)
    if found is None:
        for words, plain in _PYDANTIC.items():
            message = message.replace(words, plain)
        return message
    choices = _QUOTED.findall(found["choices"])
    near = get_close_matches(found["value"], choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{found['option']} takes {', '.join(choices[:-1])} or {choices[-1]}, not {found['value']!r}{hint}"


def _is_of_stdout(fault: OSError) -> bool:
    """Whether stdout can't be written: a file would have been named, and its fault been put in words."""
    return fault.filename is None and fault.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def _unwritten(fault: OSError) -> int:
    fail(f"stdout can't be written ({fault.strerror}); free space there, or send it elsewhere")
    return 1


def _defect(fault: Exception) -> int:
    if os.environ.get("TOKENFERRY_DEBUG") == "1":
        text = "".join(traceback.format_exception(fault))
        sys.stderr.write(redacted(redactor.clean(text)))
    fail(
        f"something went wrong that should not ({type(fault).__name__}); this is a defect in tokenferry: please report "
        "it with what TOKENFERRY_DEBUG=1 shows"
    )
    return 1
