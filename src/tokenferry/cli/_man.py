"""The manual page (man(7)), generated from the commands."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tokenferry import __version__


def manual(root: Any, parent: Any, sections: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """The lines of tokenferry(1): every command with its options; `sections` are further lists of terms."""
    yield f'.TH TOKENFERRY 1 "" "tokenferry {__version__}"'
    yield from (".SH NAME", r"tokenferry \- one place for the credentials of LLM APIs")
    yield from (".SH SYNOPSIS", r"\fBtokenferry\fR [\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGS\fR]...")
    yield from (".SH DESCRIPTION", *_paragraphs(root.help))
    yield from (".SH OPTIONS", *_options(root, parent))
    yield ".SH COMMANDS"
    for name in root.list_commands(parent):
        yield from _command(root.get_command(parent, name), parent, name)
    for heading, terms in sections.items():
        yield f'.SH "{heading.upper()}"'
        for term, text in terms.items():
            yield from (".TP", rf"\fB{_plain(term)}\fR", _plain(text))


def _command(command: Any, parent: Any, path: str) -> Iterator[str]:
    context = command.context_class(command, info_name=path.rpartition(" ")[2], parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (f'.SS "{_plain(path)}"', rf"\fBtokenferry {_plain(path)}\fR {_plain(usage)}", ".PP")
    yield from _paragraphs(command.help)
    yield from _options(command, context)
    for name, one in getattr(command, "commands", {}).items():
        if not one.hidden:
            yield from _command(one, context, f"{path} {name}")


def _options(command: Any, context: Any) -> Iterator[str]:
    for one in command.get_params(context):
        record = one.get_help_record(context)
        if record is not None and one.name != "help":
            yield from (".TP", rf"\fB{_plain(record[0])}\fR", _plain(record[1]))


def _paragraphs(text: str | None) -> Iterator[str]:
    for number, part in enumerate(re.split(r"\n\s*\n", (text or "").strip())):
        yield from ([".PP"] if number else [])
        yield _plain(part)


def _plain(text: str) -> str:
    """The text on one line, escaped for roff."""
    line = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace('"', r"\(dq")
    return rf"\&{line}" if line.startswith(".") else line
