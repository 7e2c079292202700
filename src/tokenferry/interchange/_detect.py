import os
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, Final

from tokenferry.errors import UsageError
from tokenferry.interchange._bundle import looks_like_bundle, looks_like_profile, parse_bundle
from tokenferry.interchange._ccm import looks_like_ccm, parse_ccm, parse_ccm_config
from tokenferry.interchange._claude_code import looks_like_claude_code, parse_claude_code
from tokenferry.interchange._entry import FORMATS, Entry, Format
from tokenferry.interchange._plain import looks_like_env, parse_env_file, parse_key_file
from tokenferry.interchange._pool import looks_like_pool, parse_pool
from tokenferry.secret import Fields, decode_text, parse_json

_BY_JSON: Final[tuple[tuple[Format, Callable[[Any], bool]], ...]] = (
    ("claude-code", looks_like_claude_code),
    ("profile", looks_like_profile),
    ("bundle", looks_like_bundle),
    ("ccm", looks_like_ccm),
    ("pool", looks_like_pool),
)


def detect(raw: bytes) -> Format:
    """Give the format of a file's content. Raises `UsageError` if it is unknown."""
    value = parse_json(raw)
    if isinstance(value, Fields | list):
        for name, fits in _BY_JSON:
            if fits(value):
                return name
        is_configuration = isinstance(value, Fields) and "authentication" in value
        del value  # a traceback shows the locals of this frame
        if is_configuration:
            raise UsageError(
                "it is the configuration of an SDK profile, which holds no token; attach the profile instead, or name "
                "its file under credentials/"
            )
        raise UsageError(_none())
    del value
    text = Fields(text=decode_text(raw).strip())
    if len(text["text"].split()) == 1 and not looks_like_env(text["text"]):
        return "key-file"
    if looks_like_env(text["text"]):
        return "env"
    try:
        has_providers = "providers" in tomllib.loads(text["text"])
    except (ValueError, RecursionError):
        has_providers = False
    del text
    if has_providers:
        return "ccm-config"
    raise UsageError(_none())


def parse(raw: bytes, form: Format, environ: Mapping[str, str] | None = None) -> tuple[Entry, ...]:
    """Read the entries of a file of this format. `environ` has the variables that a `ccm-config` names.

    Raises `UsageError` if the file doesn't have the format; a fault of one account is that entry's.
    """
    if form == "ccm-config":
        return parse_ccm_config(raw, os.environ if environ is None else environ)
    readers = {
        "pool": parse_pool,
        "ccm": parse_ccm,
        "bundle": parse_bundle,
        "claude-code": parse_claude_code,
        "profile": parse_bundle,
        "env": parse_env_file,
        "key-file": parse_key_file,
    }
    return readers[form](raw)


def _none() -> str:
    return f"it is none of the formats known here ({', '.join(FORMATS)})"
