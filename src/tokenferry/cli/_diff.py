import sys
from collections.abc import Sequence
from typing import Final

from tokenferry.cli._output import printable, say_lines

_STYLES: Final = (("+++", "bold"), ("---", "bold"), ("@@", "cyan"), ("+", "green"), ("-", "red"))


def say_diff(lines: Sequence[str]) -> None:
    """Print a unified diff, coloured on a terminal."""
    if not sys.stdout.isatty():
        say_lines(lines)
        return
    from rich.console import Console  # noqa: PLC0415  # only a terminal needs it
    from rich.text import Text  # noqa: PLC0415  # as above

    console = Console()
    for line in lines:
        style = next((style for prefix, style in _STYLES if line.startswith(prefix)), "")
        console.print(Text(printable(line), style=style), soft_wrap=True)
