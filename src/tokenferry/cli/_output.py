"""Output of commands: data to stdout, sentences to stderr, and no control characters for the terminal."""

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TextIO

from tokenferry.secret import without_secrets


def printable(text: str) -> str:
    """The text with control characters and line ends escaped."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def redacted(text: str) -> str:
    """The text without anything that looks like a key or token."""
    return without_secrets(text)


_data_alone: ContextVar[bool] = ContextVar("data_alone", default=False)
_said: ContextVar[set[str] | None] = ContextVar("said", default=None)


@contextlib.contextmanager
def sentences_on_stderr(*, wanted: bool = True) -> Iterator[None]:
    """Reserve stdout for data within the block: `say` writes to stderr."""
    token = _data_alone.set(wanted)
    try:
        yield
    finally:
        _data_alone.reset(token)


@contextlib.contextmanager
def outcome_json(*, wanted: bool) -> Iterator[dict[str, Any]]:
    """Send the block's sentences to stderr if JSON is `wanted`; then print the document that the block filled."""
    document: dict[str, Any] = {}
    with sentences_on_stderr(wanted=wanted):
        yield document
    if wanted:
        say_json(document)


def say(line: str = "") -> None:
    """Print a line to stdout, or to stderr if stdout is reserved for data."""
    if _data_alone.get():
        _sentence(line)
        return
    sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()


def fail(text: str) -> None:
    """Write an error to stderr: what, where, and how to fix it."""
    _sentence(text, "error", "\x1b[31m")


def warn(text: str) -> None:
    """Write a warning to stderr: the result may not be the intended one."""
    _sentence(text, "warning", "\x1b[33m")


def note(text: str) -> None:
    """Write a remark to stderr after the program's name; further lines are indented details."""
    said = _said.get()
    if said is None or text not in said:
        _sentence(text)
    if said is not None:
        said.add(text)


@contextlib.contextmanager
def notes_once() -> Iterator[None]:
    """Within the block, `note` writes each text once, however many parts of a command report it."""
    token = _said.set(set())
    try:
        yield
    finally:
        _said.reset(token)


def _sentence(text: str, kind: str = "", colour: str = "") -> None:
    label = f"{colour}{kind}:\x1b[0m " if kind and _has_colours(sys.stderr) else f"{kind}: " if kind else ""
    with contextlib.suppress(OSError):  # the exit code says the same
        sys.stderr.write(noted(text, label))
        sys.stderr.flush()


def noted(text: str, label: str = "") -> str:
    """The text that `note` writes."""
    first, *details = redacted(text).splitlines() or [""]
    details = [detail.strip() for detail in details]
    if len(details) == 1:
        first, details = f"{first} {details[0]}", []
    lines = [f"tokenferry: {label}{printable(first)}", *(f"  {printable(detail)}" for detail in details)]
    return "".join(f"{line}\n" for line in lines)


def _has_colours(stream: TextIO) -> bool:
    """Whether a stream shows colours (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say_json(data: Any) -> None:
    """Print one JSON document."""
    say_lines(json_lines(data))


def json_lines(data: Any) -> list[str]:
    """One JSON document as lines for people and programs."""
    return json.dumps(data, indent=2).splitlines()


def say_lines(lines: Iterable[str]) -> str:
    """Print lines; return the printed text."""
    whole = "".join(f"{printable(line)}\n" for line in lines)
    sys.stdout.write(whole)
    sys.stdout.flush()
    return whole
