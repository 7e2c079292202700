"""Reads the tools of a Messages request, for formats that have only functions."""

from collections.abc import Collection

import msgspec
from msgspec import Struct

from tokenferry.errors import Unfit
from tokenferry.wire._field_handling import FieldTable
from tokenferry.wire._ids import tool_name
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._schema import is_closed, object_schema
from tokenferry.wire.messages import _models as messages


class OfferedFunction(Struct, gc=False):
    """A function that the model may call."""

    name: str
    description: str | None
    schema: msgspec.Raw
    is_strict: bool
    """Whether the client asks for it and every object of the schema is closed."""


def offered_functions(
    asked: messages.MessagesRequest, table: FieldTable, quirks: Quirks, left: set[str]
) -> list[OfferedFunction]:
    """Give the functions of a request. Raises `Unfit` for server tools, and for a choice of a tool that is not sent."""
    found: list[OfferedFunction] = []
    names: set[str] = set()
    for tool in asked.tools or ():
        if tool.type in {None, "custom"}:
            table.apply(tool, left)
            found.append(_function(tool, quirks, left))
            names.add(tool.name)
        elif quirks.drop and str(tool.type).startswith(quirks.drop):
            left.add(str(tool.type)[:64])
        else:
            raise Unfit(
                f"the server runs the tool {str(tool.type)[:80]!r}; list it in the mapping's drop to leave it out"
            )
    check_choice(asked.tool_choice, names)
    return found


def check_choice(choice: messages.ToolChoice | None, names: Collection[str]) -> None:
    """Raise `Unfit` for the choice of a tool whose name is not among these."""
    kind = None if choice is None else choice.type
    if (kind == "any" and not names) or (choice is not None and kind == "tool" and choice.name not in names):
        raise Unfit("tool_choice demands a call of a tool that is not sent")


def _function(tool: messages.FunctionTool, quirks: Quirks, left: set[str]) -> OfferedFunction:
    schema = object_schema(tool.input_schema)
    is_strict = bool(tool.strict) and is_closed(schema)
    if tool.strict and not is_strict:
        left.add("strict")
    return OfferedFunction(tool_name(tool.name, quirks.name_length), tool.description or None, schema, is_strict)
