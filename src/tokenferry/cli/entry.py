"""The command's first step. It imports next to nothing: programs ask for a token before each of their requests."""

import gc
import os
import sys

_MOST_INPUT = 1024 * 1024


def main() -> int:
    """Run the command line in `sys.argv`, and give the exit code."""
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["token"]:
            from tokenferry.manifest import recall  # noqa: PLC0415  # no other command needs it

            answer = recall(arguments[1:])
            if answer is not None:
                return _write(*answer)
        if arguments == ["claude-code", "statusline"]:
            from tokenferry.cli._statusline import statusline  # noqa: PLC0415  # no other command needs it

            line = statusline(sys.stdin.read(_MOST_INPUT))
            return _write(f"{line}\n" if line else "", "")
        from tokenferry.cli._run import run  # noqa: PLC0415  # 150 ms that a token which is known is spared

        return run(arguments)
    except KeyboardInterrupt:
        return 130
    finally:
        gc.freeze()  # else the interpreter's end looks for garbage in all that was imported, for 45 ms


def _write(stdout: str, stderr: str) -> int:
    """Write to both streams; give the exit code."""
    try:
        for descriptor, text in ((2, stderr), (1, stdout)):
            left = text.encode("ascii")
            while left:
                left = left[os.write(descriptor, left) :]
    except OSError:
        return 1
    return 0
