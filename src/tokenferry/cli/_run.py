"""Run one command, from its arguments to its exit code: errors become sentences, signals an orderly end."""

import errno
import io
import os
import sys
import traceback
from typing import Final

from tokenferry.cli._logs import logs_on_stderr, redactor
from tokenferry.cli._output import fail, note, redacted
from tokenferry.cli._signals import Ended, orderly
from tokenferry.errors import TokenferryError, UsageError

_LONGEST_GRANT: Final = 120.0
_PLAIN: Final = {"--json", "--wide"}
"""Options of `status` that need no parser."""


def run(arguments: list[str]) -> int:
    """Run a command, wait for the last refresh in flight, and give the exit code. Raises nothing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale that has no such character
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
    if module is None:  # the command opened no broker
        return True
    ended: bool = module.grants_end(timeout)
    if ended:
        module.forget()
    return ended


def _invoke(arguments: list[str]) -> int:
    try:
        code = _carry_out(arguments)
        sys.stdout.flush()
    except TokenferryError as fault:
        fail(str(fault))
        return fault.exit_code
    except BrokenPipeError:  # the reader is gone; no message needed
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except OSError as fault:
        return _unwritten(fault) if _is_of_stdout(fault) else _defect(fault)
    except Exception as fault:  # noqa: BLE001  # a defect becomes a sentence, too
        return _defect(fault)
    return code


def _carry_out(arguments: list[str]) -> int:
    if arguments[:1] == ["status"] and _PLAIN.issuperset(arguments[1:]):
        from tokenferry.cli._status import show_status  # noqa: PLC0415  # as below

        show_status(wide="--wide" in arguments, as_json="--json" in arguments)
        return 0
    from tokenferry.cli._command_line import carry_out  # noqa: PLC0415  # 20 ms that `status` saves

    return carry_out(arguments)


def _is_of_stdout(fault: OSError) -> bool:
    """Whether the fault is a failed write to stdout: an error about a file would name it, and have its own sentence."""
    return fault.filename is None and fault.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def _unwritten(fault: OSError) -> int:
    fail(f"can't write to stdout ({fault.strerror}); free space there, or redirect it")
    return 1


def _defect(fault: Exception) -> int:
    if isinstance(fault, UnicodeEncodeError) and not fault.object[fault.start : fault.end].isprintable():
        fail("an argument or a variable holds a byte that is not UTF-8; write it as UTF-8")
        return UsageError.exit_code
    if os.environ.get("TOKENFERRY_DEBUG") == "1":
        text = "".join(traceback.format_exception(fault))
        sys.stderr.write(redacted(redactor.clean(text)))
    fail(
        f"unexpected error ({type(fault).__name__}); this is a defect in tokenferry: please report it with the output "
        "of TOKENFERRY_DEBUG=1"
    )
    return 1
