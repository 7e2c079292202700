"""Adds and removes entries of `[[providers]]` and `[[models]]` in a configuration's text, and keeps the rest."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from tokenferry.config._effective import examine_content
from tokenferry.errors import ConfigError, UnknownName
from tokenferry.settings import ModelMapping

ConfigList: TypeAlias = Literal["models", "providers"]

_HEADER: Final = re.compile(r"\s*\[\[?\s*([^\]\s]+)\s*\]")


def with_model(content: bytes, path: Path, name: str, mappings: Sequence[ModelMapping]) -> bytes:
    """Give the text with a model added after the present ones. Raises `ConfigError` for invalid TOML.

    The result is not checked.
    """
    import tomlkit  # noqa: PLC0415  # 60 ms that only edits need

    examine_content(content, path)
    lines = _rows(content)
    listed = [{"provider": one.provider, "actual_model": one.actual_model} for one in mappings]
    inline = ", ".join(
        "{ " + ", ".join(f"{key} = {tomlkit.item(value).as_string()}" for key, value in one.items()) + " }"
        for one in listed
    )
    entry = ["[[models]]", f"name = {tomlkit.item(name).as_string()}", f"mappings = [{inline}]"]
    end = next(reversed([end for _, end in _spans(lines, "models")]), len(lines))
    if end and lines[end - 1].strip():
        entry.insert(0, "")
    if end < len(lines) and lines[end].strip():
        entry.append("")
    wanted: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    wanted.setdefault("models", []).append({"name": name, "mappings": listed})
    return _checked([*lines[:end], *entry, *lines[end:]], wanted, path)


def without_entry(content: bytes, path: Path, section: ConfigList, name: str) -> bytes:
    """Give the text without the entry of that name; comments around it stay.

    Raises `ConfigError` for invalid TOML, `UnknownName` for a name that isn't in the list.
    """
    examine_content(content, path)
    wanted: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    names = [str(one.get("name")).casefold() for one in wanted.get(section, [])]
    if name.casefold() not in names:
        raise UnknownName(f"{path} has no entry {name[:80]!r} in [[{section}]]")
    number = names.index(name.casefold())
    del wanted[section][number]
    if not wanted[section]:
        del wanted[section]
    lines = _rows(content)
    spans = [*_spans(lines, section)]
    start, end = spans[number] if number < len(spans) else (0, 0)
    while start and not lines[start - 1].strip() and (end == len(lines) or not lines[end].strip()):
        start -= 1  # one empty line is enough
    return _checked([*lines[:start], *lines[end:]], wanted, path)


def _spans(lines: Sequence[str], section: ConfigList) -> Iterator[tuple[int, int]]:
    """Give the lines of each entry, from its header to its last key."""
    headers = [(number, found[1]) for number, line in enumerate(lines) if (found := _HEADER.match(line))]
    for at, (start, header) in enumerate(headers):
        if header != section:
            continue
        outside = (number for number, other in headers[at + 1 :] if not other.startswith(f"{section}."))
        end = next(outside, len(lines))
        while end > start and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
            end -= 1  # comments before a header belong to that
        yield start, end


def _rows(content: bytes) -> list[str]:
    """Give the lines of a document. In TOML only a newline ends a line; `str.splitlines` knows eight more ends."""
    text = content.decode("utf-8").removesuffix("\n")
    return text.split("\n") if text else []


def _checked(lines: Sequence[str], wanted: dict[str, Any], path: Path) -> bytes:
    text = "".join(f"{line}\n" for line in lines)
    try:
        found = tomllib.loads(text)
    except ValueError:
        found = {}
    if found != wanted:
        raise ConfigError(
            f"{path} is written so that this can't be changed alone; change it by: tokenferry config edit"
        )
    return text.encode("utf-8")
