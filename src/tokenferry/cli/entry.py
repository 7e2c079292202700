"""The command's first step. It imports next to nothing: programs ask for a token before each of their requests."""

import sys


def main() -> int:
    """Run the command line in `sys.argv`, and give the exit code."""
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["token"]:
            from tokenferry.cli import _fast  # noqa: PLC0415  # no other command needs it

            token = _fast.fresh_token(arguments[1:])
            if token is not None:
                return _fast.write(token, _fast.remark(arguments[1:]))
        from tokenferry.cli._run import run  # noqa: PLC0415  # 150 ms that a fresh token is spared

        return run(arguments)
    except KeyboardInterrupt:
        return 130
