"""Reads config.toml into settings. It reports every fault at once, with key, place and the nearest known key."""

from typing import TYPE_CHECKING

from tokenferry.config._load import Config, load
from tokenferry.config._store import store_url_fault
from tokenferry.deferred import deferred

if TYPE_CHECKING:
    from tokenferry.config._edit import changed, nearest_setting, with_provider
    from tokenferry.config._effective import HIDDEN, Effective, Examined, examine, examine_content
    from tokenferry.config._follow import ConfigSource, Follower
    from tokenferry.config._lists import with_model, without_entry
    from tokenferry.config._sections import SECTIONS, Section
    from tokenferry.config._template import json_schema, template
    from tokenferry.config._write import check_writable, read_content, write_content
else:
    __getattr__ = deferred(
        __name__,
        {
            "_edit": ("changed", "nearest_setting", "with_provider"),
            "_effective": ("HIDDEN", "Effective", "Examined", "examine", "examine_content"),
            "_follow": ("ConfigSource", "Follower"),
            "_lists": ("with_model", "without_entry"),
            "_sections": ("SECTIONS", "Section"),
            "_template": ("json_schema", "template"),
            "_write": ("check_writable", "read_content", "write_content"),
        },
    )

__all__ = [
    "HIDDEN",
    "SECTIONS",
    "Config",
    "ConfigSource",
    "Effective",
    "Examined",
    "Follower",
    "Section",
    "changed",
    "check_writable",
    "examine",
    "examine_content",
    "json_schema",
    "load",
    "nearest_setting",
    "read_content",
    "store_url_fault",
    "template",
    "with_model",
    "with_provider",
    "without_entry",
    "write_content",
]
