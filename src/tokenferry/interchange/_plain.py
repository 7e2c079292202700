"""Credentials without JSON: a file that holds one key or token, and the variables that programs read."""

import re
import shlex
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from tokenferry.credentials import (
    API_KEY_PREFIX,
    CLIENT_KEY_PREFIXES,
    SETUP_TOKEN_PREFIX,
    ApiKey,
    Credential,
    OAuthToken,
    SetupToken,
)
from tokenferry.errors import UsageError
from tokenferry.interchange._entry import Entry
from tokenferry.secret import Fields, Secret, decode_text, parse_secret
from tokenferry.stores import HiddenBytes

VARIABLES: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")

_BASE_URL: Final = "ANTHROPIC_BASE_URL"
_VENDOR_URL: Final = "https://api.anthropic.com"
_ASSIGNED: Final = (*VARIABLES, _BASE_URL)
# A word of a shell without what it would compute or take for an operator; "#" within a word is an ordinary character.
_WORD: Final = r"""(?:'[^']*'|"(?:[^"\\$`]|\\.)*"|\\.|[^\s'"\\$`;&|<>()])*"""
_PIECE: Final = re.compile(
    r"""'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)|(?P<plain>[^'"\\]+)"""
)
_ASSIGNMENT: Final = re.compile(rf"\s*(?:export\s+)?([A-Za-z_]\w*)=({_WORD})(?:\s*|\s+#.*)", re.ASCII)
_NAMES: Final = "|".join(_ASSIGNED)
_MENTION: Final = re.compile(rf"(?<!\w)(?:{_NAMES})(?!\w)", re.ASCII)
# A comment, or another variable whose value may name one of these and sets none of them.
_OTHER: Final = re.compile(
    rf"\s*(?:#|(?:export\s+)?(?!(?:{_NAMES})=)[A-Za-z_]\w*=(?!.*(?<!\w)(?:{_NAMES})=))", re.ASCII
)
_NO_CREDENTIALS: Final = (
    (CLIENT_KEY_PREFIXES, "a key of tokenferry's own gateway"),
    (("sk-ant-ort",), "a refresh token alone, whose access token is missing"),
)


def parse_key_file(raw: bytes) -> tuple[Entry, ...]:
    """Read the one key or token. Raises `UsageError` for an invalid one, without quoting it."""
    try:
        return (_entry("", parse_secret(decode_text(raw))),)
    except ValueError as problem:
        fault = str(problem)
    del raw  # a traceback shows the locals of this frame
    raise UsageError(f"it is not one key or token: {fault}")


def parse_environment(environ: Mapping[str, str]) -> tuple[Entry, ...]:
    """Read the vendor's variables, in their order; each entry's key is its variable."""
    values = Fields((name, environ.get(name, "").strip()) for name in (*VARIABLES, _BASE_URL))
    is_vendors = _is_vendors(values[_BASE_URL])
    found = []
    for name in VARIABLES:
        if not values[name]:
            continue
        try:
            entry = _entry(name, parse_secret(values[name]))
        except ValueError as fault:
            entry = Entry(name, fault=str(fault))
        if not is_vendors and name != VARIABLES[2] and not entry.fault:
            entry = Entry(name, fault=f"meant for the host that {_BASE_URL} names, not for the vendor's")
        found.append(entry)
    return tuple(found)


def parse_env_file(raw: bytes) -> tuple[Entry, ...]:
    """Read lines `NAME=value` as a shell does; other variables are ignored.

    Raises `UsageError` for a line that mentions one of the vendor's variables and isn't such an assignment, or whose
    value a shell would compute.
    """
    values = Fields()
    numbered = enumerate(decode_text(raw).split("\n"), 1)
    lines = Fields((str(number), line) for number, line in numbered)  # which a traceback doesn't show
    del raw
    for number in lines:
        found = _ASSIGNMENT.fullmatch(lines[number].rstrip("\r"))
        if found is not None and found[1] in _ASSIGNED:
            values[found[1]] = "".join(map(_unquoted, _PIECE.finditer(found[2])))
        elif found is None and _MENTION.search(lines[number]) and not _OTHER.match(lines[number]):
            del found
            raise UsageError(f"line {number} can't be read exactly; write it as NAME=value, in one line")
    return parse_environment(values)


def _unquoted(piece: "re.Match[str]") -> str:
    """Give a piece of a shell's word without its quotes."""
    if piece["double"] is not None:
        return re.sub(r'\\(["\\$`])', r"\1", piece["double"])
    return piece["single"] or piece["escaped"] or piece["plain"] or ""


def looks_like_env(text: str) -> bool:
    """Return whether a text sets one of the variables."""
    return any(f"{name}=" in text for name in VARIABLES)


def render_key_file(credential: Credential) -> bytes:
    """Give the key or token and a line end."""
    return HiddenBytes(f"{credential.secret.reveal()}\n".encode("ascii"))


def render_environment(credential: Credential, variable: str | None = None) -> bytes:
    """Give a line `NAME=value` that a shell and an env file can read; by default with the kind's variable.

    The variables of the kinds are those of Anthropic's programs, which send the values to Anthropic.
    """
    names = {
        "api-key": VARIABLES[0],
        "oauth": VARIABLES[1],
        "federated": VARIABLES[1],
        "exchanged": VARIABLES[1],
        "setup-token": VARIABLES[2],
    }
    name = variable or names[credential.kind]
    return HiddenBytes(f"{name}={shlex.quote(credential.secret.reveal())}\n".encode("ascii"))


def _entry(key: str, secret: Secret) -> Entry:
    begins = secret.reveal().startswith
    for prefixes, fault in _NO_CREDENTIALS:
        if begins(prefixes):
            return Entry(key, fault=fault)
    is_token = begins(SETUP_TOKEN_PREFIX)
    if key == VARIABLES[1]:  # it takes setup tokens and access tokens, and doesn't say which
        return Entry(key, OAuthToken(secret), provider="claude-max" if is_token else None)
    if not is_token:
        return Entry(key, ApiKey(secret), provider="anthropic" if begins(API_KEY_PREFIX) else None)
    try:
        return Entry(key, SetupToken(secret), provider="claude-max")
    except UsageError as short:
        return Entry(key, fault=str(short))


def _is_vendors(url: str) -> bool:
    try:
        return not url or urlsplit(url).hostname == urlsplit(_VENDOR_URL).hostname
    except ValueError:
        return False
