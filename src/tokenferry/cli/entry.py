"""The entry point. It imports next to nothing: programs ask for a token before each of their requests."""

import gc
import os
import sys

_MOST_INPUT = 1024 * 1024


def main() -> int:
    """Run the command line in `sys.argv`, and give the exit code."""
    arguments = sys.argv[1:]
    gc.disable()  # imports make no garbage; searching them takes a tenth of their time
    if sys.stderr is None:  # the next file opened would take its number
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")
    try:
        if sys.stdout is None:
            return _unwritten("it is closed")
        if arguments[:1] == ["token"]:
            from tokenferry.manifest import recall  # noqa: PLC0415  # only `token` needs it

            answer = recall(arguments[1:])
            if answer is not None:
                return _write(*answer)
        if arguments == ["claude-code", "statusline"]:
            from tokenferry.cli._statusline import statusline  # noqa: PLC0415  # only the status line needs it

            line = statusline("" if sys.stdin is None else sys.stdin.read(_MOST_INPUT))
            return _write(f"{line}\n" if line else "", "")
        from tokenferry.cli._run import run  # noqa: PLC0415  # 150 ms that a remembered token saves

        return run(arguments)
    except KeyboardInterrupt:
        return 130
    finally:
        _drop_unwritten()
        gc.freeze()  # else the interpreter searches all imports for garbage when it ends, for 45 ms


def _write(stdout: str, stderr: str) -> int:
    """Write to both streams; give the exit code."""
    try:
        for descriptor, text in ((2, stderr), (1, stdout)):
            left = text.encode("ascii")
            while left:
                left = left[os.write(descriptor, left) :]
    except BrokenPipeError:
        return 1
    except OSError as fault:
        return _unwritten(os.strerror(fault.errno or 0))
    return 0


def _unwritten(why: str) -> int:
    try:  # noqa: SIM105  # importing contextlib takes 5 ms
        sys.stderr.write(f"tokenferry: error: can't write to stdout ({why}); redirect it\n")
    except OSError:  # the exit code says the same
        pass
    return 1


def _drop_unwritten() -> None:
    """Drop text that a full or closed stream did not take: the interpreter would write it again, and exit with 120."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
