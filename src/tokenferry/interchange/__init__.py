"""Reads and writes other programs' credential files as values, without I/O.

Content is given as `HiddenBytes`, because a traceback of a caller would show bytes.
"""

from tokenferry.interchange._bundle import parse_bundle, render_bundle, render_profile
from tokenferry.interchange._ccm import ccm_login_providers, parse_ccm, parse_ccm_config, upsert_ccm
from tokenferry.interchange._claude_code import parse_claude_code, render_claude_code
from tokenferry.interchange._detect import detect, parse
from tokenferry.interchange._entry import FORMATS, Entry, Format, without_refresh
from tokenferry.interchange._json import EXPIRIES, read_expiry, read_secret, read_time, unread_expiry
from tokenferry.interchange._plain import (
    VARIABLES,
    parse_env_file,
    parse_environment,
    parse_key_file,
    render_environment,
    render_key_file,
)
from tokenferry.interchange._pool import parse_pool, upsert_pool

__all__ = [
    "EXPIRIES",
    "FORMATS",
    "VARIABLES",
    "Entry",
    "Format",
    "ccm_login_providers",
    "detect",
    "parse",
    "parse_bundle",
    "parse_ccm",
    "parse_ccm_config",
    "parse_claude_code",
    "parse_env_file",
    "parse_environment",
    "parse_key_file",
    "parse_pool",
    "read_expiry",
    "read_secret",
    "read_time",
    "render_bundle",
    "render_claude_code",
    "render_environment",
    "render_key_file",
    "render_profile",
    "unread_expiry",
    "upsert_ccm",
    "upsert_pool",
    "without_refresh",
]
