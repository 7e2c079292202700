from typing import Annotated, Final, TypeAlias

import typer

JSON: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

SETTINGS: Final = {"help_option_names": ["-h", "--help"]}


def examples(*lines: str) -> str:
    """The end of a help text. The backspace keeps the lines from being wrapped."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def new_app(help_text: str | None = None, *lines: str) -> typer.Typer:
    """A command or a group of them, the latter with a help text and lines of examples.

    Help is plain, and there are no pretty tracebacks, which would show the locals of every frame.
    """
    return typer.Typer(
        help=help_text,
        epilog=examples(*lines) if lines else None,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=SETTINGS,
    )
