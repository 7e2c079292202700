"""Changes to a configuration's text that preserve comments and layout."""

import re
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tokenferry.config._effective import Examined, examine_content
from tokenferry.config_key import KeyKind
from tokenferry.errors import ConfigError, UnknownName, nearest
from tokenferry.providers import Setting

if TYPE_CHECKING:
    from tomlkit.toml_document import TOMLDocument

_OF_PROVIDER: Final = re.compile(r"providers\.(?P<name>.+?)\.(?:oauth\.)?[^.]+")


def changed(content: bytes, path: Path, name: str, value: str | None) -> bytes:
    """Return the file's text with a setting (`server.port`, `providers.NAME.base_url`) set, or removed for None.

    The value is TOML, or a text or list without quotes. It doesn't check whether the result can be used.
    Raises `ConfigError` if the text is not valid TOML, `UnknownName`.
    """
    import tomlkit  # noqa: PLC0415  # 60 ms that only edits need

    examined = examine_content(content, path)
    document = tomlkit.parse(content.decode("utf-8"))
    wanted: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    found = examined.settings.get(name)
    if value is not None and (found is None or not found.is_in_document) and (new := _new_provider(examined, name)):
        _add_provider(document, new)
        wanted.setdefault("providers", []).append({"name": new})
        found = examine_content(tomlkit.dumps(document).encode("utf-8"), path).settings.get(name)
    if found is None and value is not None:
        found = _in_new_table(wanted, path, name)
    if found is None:
        raise nearest_setting(name, examined)
    if value is None:
        if found.is_given:
            del _table(document, found.table)[found.name]
            del _plain(wanted, found.table)[found.name]
    else:
        typed = typed_value(value, found.key.kind)
        _put(document, found, typed)
        _plain(wanted, found.table)[found.name] = typed
    text = tomlkit.dumps(document)
    if tomllib.loads(text) != wanted:
        raise ConfigError(
            f"{path} is written so that {name} can't be changed alone; change it by: tokenferry config edit"
        )
    return text.encode("utf-8")


def typed_value(text: str, kind: KeyKind) -> Any:
    """Parse a text as a setting of this kind; the text itself if it can't be parsed."""
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except ValueError:
        value = text
    match kind:
        case "text" | "choice" | "path" | "url" | "pattern":
            return value if isinstance(value, str) else text
        case "texts":
            if isinstance(value, list):
                return value
            return [part.strip() for part in str(value).split(",")] if text else []
        case _:
            return value


def nearest_setting(name: str, examined: Examined) -> UnknownName:
    """The error that no setting has this name."""
    known = list(examined.settings)
    sections = {path.rpartition(".")[0] for path in known}
    near = nearest(name, known)
    if name in sections:
        hint = (
            f"it is a section; name a key in it, such as {next(path for path in known if path.startswith(f'{name}.'))}"
        )
    else:
        hint = f"did you mean {near}?" if near else "see: tokenferry config show"
    return UnknownName(f"there is no setting {name[:80]!r}; {hint}")


def _in_new_table(data: dict[str, Any], path: Path, name: str) -> Setting | None:
    """Return the setting, if it belongs to a table that only has to be added, as `[accounts.NAME]`."""
    *tables, _ = name.split(".")
    with_table: Any = {}
    for table in reversed(tables):
        with_table = {table: with_table}
    import tomlkit  # noqa: PLC0415  # see above

    if not tables or (tables[0] in data and not isinstance(data[tables[0]], dict)):
        return None
    return examine_content(tomlkit.dumps(with_table).encode("utf-8"), path).settings.get(name)


def _new_provider(examined: Examined, name: str) -> str | None:
    """Return the provider that a path names, if the file doesn't declare it."""
    found = _OF_PROVIDER.fullmatch(name)
    if found is None:
        return None
    setting = examined.settings.get(f"providers.{found['name']}.base_url")
    return found["name"] if setting is None or not setting.is_in_document else None


def _add_provider(document: "TOMLDocument", name: str) -> None:
    import tomlkit  # noqa: PLC0415  # see above
    from tomlkit.items import AoT  # noqa: PLC0415  # see above

    before = document.as_string()
    if "providers" not in document:
        document.append("providers", tomlkit.aot())
    providers = document["providers"]
    if not isinstance(providers, AoT):
        raise ConfigError("providers must be written as [[providers]]; change it by: tokenferry config edit")
    last = providers[-1].as_string() if len(providers) else before
    table = tomlkit.table()
    table.trivia.indent = _gap(last)
    table.append("name", name)
    if len(providers) and not before.endswith(last):
        table.add(tomlkit.nl())  # another section follows
    providers.append(table)


def _gap(before: str) -> str:
    """Return an empty line, unless the text ends with one."""
    return "\n" if before and not before.endswith("\n\n") else ""


def _plain(data: dict[str, Any], place: Sequence[str | int]) -> dict[str, Any]:
    """Return the table at a place, creating it if missing."""
    at: Any = data
    for step in place:
        at = at[step] if isinstance(step, int) else at.setdefault(step, {})
    table: dict[str, Any] = at
    return table


def _table(document: "TOMLDocument", place: Sequence[str | int]) -> MutableMapping[str, Any]:
    import tomlkit  # noqa: PLC0415  # see above

    at: Any = document
    for step in place:
        if isinstance(step, str) and step not in at:
            table = tomlkit.table()
            table.trivia.indent = _gap(at.as_string())
            at.append(step, table)
        at = at[step]
    table_there: MutableMapping[str, Any] = at
    return table_there


def _put(document: "TOMLDocument", setting: Setting, value: Any) -> None:
    """Set it in place, or after the last key of its table: comments at the end belong to what follows."""
    from tomlkit.items import Table  # noqa: PLC0415  # see above

    table = _table(document, setting.table)
    if setting.name in table or not isinstance(table, Table):
        table[setting.name] = value
        return
    body = table.value.body
    end = len(body)
    while end and body[end - 1][0] is None:
        end -= 1
    rest = body[end:]
    del body[end:]
    table.append(setting.name, value)
    body.extend(rest)


def with_provider(content: bytes, path: Path, name: str, values: Mapping[str, str]) -> bytes:
    """Return the file's text with one more provider declared. Raises `ConfigError` if the text is not valid TOML.

    It doesn't check whether the result can be used.
    """
    import tomlkit  # noqa: PLC0415  # see above

    examine_content(content, path)
    document = tomlkit.parse(content.decode("utf-8"))
    wanted: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    _add_provider(document, name)
    wanted.setdefault("providers", []).append({"name": name, **values})
    found = {
        one.key.name: one
        for one in examine_content(tomlkit.dumps(document).encode("utf-8"), path).settings.values()
        if one.table == ("providers", len(wanted["providers"]) - 1)
    }
    for key, value in values.items():
        _put(document, found[key], value)
    text = tomlkit.dumps(document)
    if tomllib.loads(text) != wanted:
        raise ConfigError(f"{path} is written so that no provider can be added; add it by: tokenferry config edit")
    return text.encode("utf-8")
