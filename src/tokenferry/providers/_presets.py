import tomllib
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from tokenferry.credentials import KeyHeader
from tokenferry.providers._provider import Provider, WireFormat

PLACES: Final = ("region", "resource", "project_id", "location")
"""The variables of an address, each written in it as `{NAME}`."""
_MULTI_REGIONS: Final = ("us", "eu")

KEY_HEADERS: Final[Mapping[WireFormat, KeyHeader]] = {
    "anthropic": "x-api-key",
    "openai": "authorization",
    "openai-responses": "authorization",
    "gemini": "x-goog-api-key",
    "vertex": "authorization",
    "vertex-anthropic": "authorization",
}
"""The header that takes a key, unless a preset or a declaration names another."""


class Preset(Struct, frozen=True):
    """An upstream that can be declared by name only, with the vendor's page that describes it."""

    name: str
    title: str
    base_url: str
    key_header: KeyHeader
    wire_format: WireFormat
    env_var: str | None
    hosts: tuple[str, ...]
    """The vendor's hosts. A client's own key goes only to these and their subdomains."""
    prefixes: tuple[str, ...]
    """The prefixes of its keys, if they identify the vendor."""
    key_shape: str | None
    """A regular expression that its keys match as a whole."""
    check_url: str | None
    """The URL of a free GET request that needs a valid key."""
    slash_names: bool
    """Whether its model names contain slashes."""
    google: bool
    """Whether Google's credentials can replace a key."""
    placeholder_key: str | None
    """The key for servers that ask for none."""
    source: str
    second_hand: bool
    """Whether the page isn't the vendor's own, or doesn't print the address."""
    checked: date
    """When the page was last read."""

    @property
    def places(self) -> tuple[str, ...]:
        """Give the variables of its address, by the names of the provider's keys."""
        return places_in(self.base_url)

    @property
    def provider(self) -> Provider:
        return Provider(
            self.name,
            self.name,
            self.base_url,
            env_var=self.env_var,
            key_header=self.key_header,
            wire_format=self.wire_format,
            slash_names=self.slash_names,
            vendor_hosts=self.hosts,
            key_prefixes=self.prefixes,
            key_shape=self.key_shape,
            check_url=self.check_url,
        )


def places_in(address: str) -> tuple[str, ...]:
    """Give the variables of an address, by the names of the provider's keys."""
    return tuple(name for name in PLACES if f"{{{name}}}" in address)


def filled(address: str, places: Mapping[str, str]) -> str:
    """Give the address with these values. Vertex AI has a host for each location, and others for multi-regions."""
    for name, value in places.items():
        if value == "global" or value in _MULTI_REGIONS:
            host = "aiplatform" if value == "global" else f"aiplatform.{value}.rep"
            address = address.replace(f"{{{name}}}-aiplatform", host)
        address = address.replace(f"{{{name}}}", value)
    return address


@cache
def presets() -> Mapping[str, Preset]:
    """Give the presets by name, in order."""
    found = [_preset(table) for key, table in _document().items() if key not in {"other_formats", "quirks"}]
    return MappingProxyType({preset.name: preset for preset in found})


@cache
def other_formats() -> Mapping[str, WireFormat]:
    """Give the types with an API format that isn't supported, and that format."""
    groups: dict[WireFormat, list[str]] = _document()["other_formats"]
    return MappingProxyType({name: wire for wire, names in groups.items() for name in names})


def quirks(provider_type: str) -> Mapping[str, Any]:
    """Give what differs in this type's Chat Completions, as fields of `wire.Quirks`."""
    found: Mapping[str, Any] = _document()["quirks"].get(provider_type, {})
    return found


@cache
def _document() -> dict[str, Any]:
    text = Path(__file__).with_name("presets.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _preset(table: dict[str, Any]) -> Preset:
    wire_format: WireFormat = table.get("wire_format", "anthropic")
    return Preset(
        name=table["name"],
        title=table["title"],
        base_url=table["base_url"],
        key_header=table.get("key_header", KEY_HEADERS[wire_format]),
        wire_format=wire_format,
        env_var=table.get("env_var"),
        hosts=tuple(table.get("hosts", ())),
        prefixes=tuple(table.get("prefixes", ())),
        key_shape=table.get("key_shape"),
        check_url=table.get("check_url"),
        slash_names=table.get("slash_names", False),
        google=table.get("google", False),
        placeholder_key=table.get("placeholder_key"),
        source=table["source"],
        second_hand=table.get("second_hand", False),
        checked=table["checked"],
    )
