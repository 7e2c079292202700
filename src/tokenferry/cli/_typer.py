from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args, get_origin

import typer
from typer.core import TyperArgument, TyperGroup

from tokenferry.errors import nearest

JSON: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
WIDE: TypeAlias = Annotated[bool, typer.Option("--wide", help="Show every column, even on a narrow terminal.")]

_MEANT: Final = {
    "add": ("create",),
    "create": ("add",),
    "new": ("create", "add"),
    "delete": ("remove", "revoke"),
    "rm": ("remove", "revoke"),
    "ls": ("list",),
    "info": ("show",),
    "edit": ("set",),
    "today": ("daily",),
    "on": ("enable",),
    "off": ("disable",),
}
"""Verbs of other programs, and ours that do the same."""

_UNCLEAR: Final = object()
_MOST_DIGITS: Final = 9
_WHOLE: Final = 1000
"""A width that no sentence reaches."""
SETTINGS: Final = {"help_option_names": ["-h", "--help"]}


class Group(TyperGroup):
    """A group of commands. For an unknown command the error suggests the nearest one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args[0] not in known and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            meant = self.meant(args[0], known)
            hint = f"did you mean {listed(meant)}?" if meant else f"there are {', '.join(known)}"
            ctx.fail(f"There is no command {args[0][:80]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands with the whole first sentence of their help; Typer would cut it at the line's end."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, one.get_short_help_str(_WHOLE)) for name, one in commands if one and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def meant(self, word: str, known: list[str]) -> list[str]:
        """The commands that an unknown word may stand for."""
        near = nearest(word, known)
        return [one for one in _MEANT.get(word, ()) if one in known] or ([near] if near else [])


def listed(names: list[str]) -> str:
    """Names in quotes: 'a', 'b' or 'c'."""
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last


def spare_conversions(command: Any) -> None:
    """Pass values on unchanged where nothing needs conversion, in a command or in each one of a group.

    Typer converts every value with pydantic, absent ones too, and importing pydantic takes 90 ms.
    """
    for inner in getattr(command, "commands", {}).values():
        spare_conversions(inner)
    parameters = command.get_params
    command.get_params = lambda context: [_spared(one) for one in parameters(context)]


def _spared(parameter: Any) -> Any:
    if isinstance(parameter, TyperArgument):
        _show_plainly(parameter)
    convert, kind = parameter.process_value, getattr(parameter, "type_descriptor", None)
    if kind is None or "process_value" in vars(parameter):
        return parameter

    def process_value(context: Any, value: Any) -> Any:
        is_default = type(value) is kind.annotation and context.get_parameter_source(parameter.name).name == "DEFAULT"
        plain = value if is_default else _plainly(parameter, value)
        if plain is _UNCLEAR:
            return convert(context, value)
        return plain if parameter.callback is None else parameter.callback(context, parameter, plain)

    parameter.process_value = process_value
    return parameter


def _plainly(parameter: Any, value: Any) -> Any:  # noqa: PLR0911  # one return per kind of value
    """Typer's result for a value if that is clear; `_UNCLEAR` for all others, and for likely mistakes."""
    kind = parameter.type_descriptor
    wanted, about = kind.annotation, kind.parameter_info
    if value is None and not parameter.required:
        return () if parameter.multiple or parameter.nargs == -1 else None
    if about.parser is not None:
        return _UNCLEAR
    if wanted == list[str] and isinstance(value, list | tuple):
        return list(value)
    if type(value) is not str:
        return _UNCLEAR
    if wanted in (str, Path):
        return wanted(value)
    if wanted is int and len(value) <= _MOST_DIGITS and value.isascii() and value.isdecimal():
        is_within = (about.min is None or int(value) >= about.min) and (about.max is None or int(value) <= about.max)
        return int(value) if is_within else _UNCLEAR
    return value if get_origin(wanted) is Literal and value in get_args(wanted) else _UNCLEAR


def _show_plainly(argument: Any) -> None:
    """Show an argument in help texts as `NAME`, `[NAME]` or `NAME...`, without braces and Python types."""
    name = argument.display_name_raw.strip("[]").removesuffix("...")
    name = name.upper() if argument.metavar is None else name
    shown = name if argument.nargs == 1 else f"{name}..."
    argument.display_type_rich = lambda ctx: ""  # noqa: ARG005  # the signature is the library's
    argument._usage_display_name = lambda: shown if argument.required else f"[{shown}]"  # noqa: SLF001  # no other way
    argument._rich_display_name = lambda: name  # noqa: SLF001  # as above


def examples(*lines: str) -> str:
    """The examples at the end of a help text. The backspace keeps the lines from being wrapped."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def new_app(help_text: str | None = None, *lines: str) -> typer.Typer:
    """A command, or a group with a help text and examples.

    No pretty tracebacks: they show the locals of every frame.
    """
    return typer.Typer(
        cls=Group,
        help=help_text,
        epilog=examples(*lines) if lines else None,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=SETTINGS,
    )
