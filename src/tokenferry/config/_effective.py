"""What the configuration comes to, value by value, and where each one is from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from tokenferry.config._load import Config, parse, read
from tokenferry.config._place import read_config_file
from tokenferry.errors import ConfigError
from tokenferry.providers import Setting, SettingKind, Table, builtin_providers, declare
from tokenferry.secret import Fields
from tokenferry.statement import stated_at

_NOWHERE: Final = ("", 0)
"""The place of a table that the document doesn't have."""

Source: TypeAlias = Literal["config.toml", "statement", "built-in", "default"]


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting by its dotted path. `fingerprint` is that of the secret it leads to, if it leads to one."""

    path: str
    value: Any
    kind: SettingKind
    source: Source
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """A configuration that was looked at, whether it can be used or not."""

    path: Path
    exists: bool
    config: Config
    """Of use only without problems."""
    problems: tuple[str, ...]
    settings: Mapping[str, Setting]
    """By path: those of the file, then those of providers that it doesn't name."""
    statement: int | None = None
    """When the operator stated the policy, in seconds since 1970 UTC; None where they didn't, or the file rules."""

    def effective(self) -> list[Effective]:
        return [self._effective(path, setting) for path, setting in self.settings.items()]

    def raise_problems(self) -> None:
        """Raise the `ConfigError` that lists them, if there are any."""
        if self.problems:
            raise ConfigError(f"{self.path} can't be used:", self.problems)

    def _effective(self, path: str, setting: Setting) -> Effective:
        if path == "policy.subscription" and self.statement is not None:
            return Effective(path, "own", setting.kind, "statement")
        provider = path.removeprefix("providers.").removesuffix(".api_key")
        is_key = setting.key == "api_key" and setting.is_given
        key = self.config.keys.get(provider) if is_key else None
        fingerprint = None if key is None else key.secret.fingerprint
        return Effective(path, setting.value, setting.kind, _source(setting), fingerprint)


def examine(path: Path, *, environ: Mapping[str, str] | None = None, statement: Path | None = None) -> Examined:
    """Look at a file, or at what holds without one. Raises `ConfigError` for what is no TOML, `UnsafeFile`."""
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
    """Look at what a file holds, or may hold next. Raises `ConfigError` for what is no TOML."""
    problems: list[str] = []
    seen: list[Setting] = []
    data = parse(content, path)
    config = read(data, path, Fields(os.environ if environ is None else environ), problems, seen)
    declared = {setting.table.path for setting in seen}
    builtin = builtin_providers()
    for name in builtin:
        if f"providers.{name}" not in declared:
            declare(Table({"name": name}, "", [], seen, _NOWHERE), builtin)
    at = stated_at(statement) if statement is not None and config.policy.source == "default" else None
    settings = {setting.table.at(setting.key): setting for setting in seen}
    return Examined(path, exists, config, tuple(problems), settings, at)


def is_in_document(setting: Setting) -> bool:
    """Tell whether the document could hold the setting as it stands; a built-in provider's needs a table first."""
    return setting.table.place[:2] != _NOWHERE


def _source(setting: Setting) -> Source:
    if not is_in_document(setting):
        return "built-in"
    return "config.toml" if setting.is_given else "default"
