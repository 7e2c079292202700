import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from tokenferry.credentials import KeyHeader
from tokenferry.providers._provider import Provider, WireFormat


@dataclass(frozen=True, slots=True)
class Preset:
    """An upstream that can be declared by its name alone, and where its vendor documents it."""

    name: str
    title: str
    base_url: str
    key_header: KeyHeader
    env_var: str
    hosts: tuple[str, ...]
    """The vendor's: a client's own key of this vendor goes to none but these, and to what is below them."""
    prefixes: tuple[str, ...]
    """Of its keys, where they tell the vendor."""
    key_shape: str | None
    """A regular expression that its keys match whole."""
    check_url: str | None
    """A GET that costs nothing and needs a valid key."""
    source: str
    second_hand: bool
    """Whether the page isn't the vendor's own, or doesn't print the address."""
    checked: date
    """When the page was looked at."""

    @property
    def provider(self) -> Provider:
        return Provider(
            self.name,
            self.name,
            self.base_url,
            env_var=self.env_var,
            key_header=self.key_header,
            vendor_hosts=self.hosts,
            key_prefixes=self.prefixes,
            key_shape=self.key_shape,
            check_url=self.check_url,
        )


@cache
def presets() -> Mapping[str, Preset]:
    """By name, in their order."""
    found = [_preset(table) for key, table in _document().items() if key not in {"other_formats", "quirks"}]
    return MappingProxyType({preset.name: preset for preset in found})


@cache
def other_formats() -> Mapping[str, WireFormat]:
    """The types whose APIs have a format that is not served, and which."""
    groups: dict[WireFormat, list[str]] = _document()["other_formats"]
    return MappingProxyType({name: wire for wire, names in groups.items() for name in names})


def quirks(provider_type: str) -> Mapping[str, Any]:
    """How the Chat Completions of providers of this type differ from most others': the fields of `wire.Quirks`."""
    found: Mapping[str, Any] = _document()["quirks"].get(provider_type, {})
    return found


@cache
def _document() -> dict[str, Any]:
    text = files("tokenferry.providers").joinpath("presets.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _preset(table: dict[str, Any]) -> Preset:
    return Preset(
        name=table["name"],
        title=table["title"],
        base_url=table["base_url"],
        key_header=table.get("key_header", "x-api-key"),
        env_var=table["env_var"],
        hosts=tuple(table["hosts"]),
        prefixes=tuple(table.get("prefixes", ())),
        key_shape=table.get("key_shape"),
        check_url=table.get("check_url"),
        source=table["source"],
        second_hand=table.get("second_hand", False),
        checked=table["checked"],
    )
