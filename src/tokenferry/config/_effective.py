"""The effective configuration, value by value, with the source of each."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.config._alerts import WEBHOOK
from tokenferry.config._lines import line_of, lines_of, with_lines
from tokenferry.config._load import Config, read
from tokenferry.config._place import read_config_file
from tokenferry.config._providers import VARIABLE
from tokenferry.config._sections import SECTIONS
from tokenferry.config._toml import parse
from tokenferry.config_key import ConfigKey
from tokenferry.errors import ConfigError
from tokenferry.oauth import SUBJECT
from tokenferry.policy_statement import stated_at
from tokenferry.providers import Fault, Reading, Setting, Table, builtin_providers, declare
from tokenferry.secret import Fields

_SECTION_ORDER: Final = {section.path[0]: number for number, section in enumerate(SECTIONS)}

HIDDEN: Final = "(hidden)"
_SENT: Final = frozenset(("headers", "federation_headers", "parameters"))
"""Keys whose texts are sent to a provider unchanged."""
_PLACEHOLDER: Final = re.compile(r"(\w+ )?" + re.escape(SUBJECT))
Source: TypeAlias = Literal["config.toml", "statement", "built-in", "default"]


class Effective(Struct, frozen=True):
    """One setting by its dotted path, with the value in the form of the file."""

    path: str
    key: ConfigKey
    value: Any
    source: Source
    line: int | None = None
    """The line in config.toml."""
    variable: str | None = None
    """The environment variable that the value names."""
    fingerprint: str | None = None
    """The fingerprint of the secret that the value leads to."""

    @property
    def hidden(self) -> frozenset[str]:
        """Texts in the value that may be secrets: headers that the file sets, and the address of a webhook."""
        if self.source != "config.toml" or not self.value:
            return frozenset()
        if self.key.name == WEBHOOK.name:
            return frozenset() if VARIABLE.fullmatch(self.value) else frozenset((self.value,))
        if self.key.name not in _SENT or not self.path.startswith("providers."):
            return frozenset()
        return frozenset(text for text in self.value.values() if not _PLACEHOLDER.fullmatch(text))

    @property
    def shown(self) -> Any:
        """The value with `(hidden)` in place of possible secrets."""
        if isinstance(self.value, dict):
            return {name: HIDDEN if text in self.hidden else text for name, text in self.value.items()}
        return HIDDEN if self.hidden else self.value


class Examined(Struct, frozen=True):
    """The result of examining a configuration, whether it can be used or not."""

    path: Path
    exists: bool
    config: Config
    """Usable only without problems."""
    faults: tuple[Fault, ...]
    settings: Mapping[str, Setting]
    """By path: those of the file, then those of providers that it doesn't mention."""
    content: bytes = b""
    statement: int | None = None
    """When the operator stated the policy, in seconds since 1970 UTC.

    None without a statement, or if the file decides.
    """

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(map(str, self.faults))

    def effective(self) -> list[Effective]:
        lines = lines_of(self.content)
        return [self._effective(path, setting, lines) for path, setting in self.settings.items()]

    def raise_problems(self) -> None:
        """Raise a `ConfigError` that lists the problems, if there are any."""
        if self.faults:
            raise ConfigError(f"{self.path} can't be used:", self.problems)

    def _effective(self, path: str, setting: Setting, lines: Mapping[tuple[str | int, ...], int]) -> Effective:
        key, value = setting.key, setting.key.toml_value(setting.value)
        if path == "policy.subscriptions" and self.statement is not None:
            return Effective(path, key, "own-use", "statement")
        if not (setting.is_given and setting.is_in_document):
            return Effective(path, key, value, "default" if setting.is_in_document else "built-in")
        found = Effective(path, key, value, "config.toml", line_of((*setting.table, setting.name), lines))
        if key.name != "api_key":
            return found
        secret = self.config.keys.get(path.removeprefix("providers.").removesuffix(".api_key"))
        variable = VARIABLE.fullmatch(str(value))
        return replace(
            found,
            variable=variable and variable[2],
            fingerprint=None if secret is None else secret.secret.fingerprint,
        )


def examine(path: Path, *, environ: Mapping[str, str] | None = None, statement: Path | None = None) -> Examined:
    """Examine a file; without one, the defaults. Raises `ConfigError` for invalid TOML, `UnsafeFile`."""
    try:
        content = read_config_file(path)
    except FileNotFoundError:
        return examine_content(b"", path, exists=False, environ=environ, statement=statement)
    return examine_content(content, path, environ=environ, statement=statement)


def examine_content(
    content: bytes,
    path: Path,
    *,
    exists: bool = True,
    environ: Mapping[str, str] | None = None,
    statement: Path | None = None,
) -> Examined:
    """Examine the present or a proposed content of a file. Raises `ConfigError` for invalid TOML."""
    config, reading = read(parse(content, path), path, Fields(os.environ if environ is None else environ))
    declared = {one.path for one in reading.settings if one.key.name == "base_url"}
    builtin = builtin_providers()
    for name in builtin:
        if f"providers.{name}.base_url" not in declared:
            further = Reading(settings=reading.settings)
            declare(Table({"name": name}, "", further, None), builtin)
    at = stated_at(statement) if statement is not None and config.policy.source == "default" else None
    settings = {setting.path: setting for setting in sorted(reading.settings, key=_order)}
    return Examined(path, exists, config, with_lines(reading.faults, content), settings, content, at)


def _order(setting: Setting) -> tuple[int, bool, int, int]:
    """Sort the sections as they are declared, lists entry by entry; built-in ones come last."""
    section = _SECTION_ORDER.get(setting.path.partition(".")[0], 0)
    if not setting.is_in_document:
        return section, True, 0, 0
    number = next((step for step in setting.table if isinstance(step, int)), 0)
    return section, False, number, len(setting.table)
