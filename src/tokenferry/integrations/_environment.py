"""The environment variables that carry a credential into a program."""

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from tokenferry.credentials import Credential
from tokenferry.providers import Provider, is_loopback
from tokenferry.secret import Secret

ANTHROPIC_URL: Final = "https://api.anthropic.com"
SOCKET_URL: Final = "http://gateway.local"
"""The URL of a gateway behind a socket; any host name would do."""
_ANTHROPIC_TYPES: Final = ("anthropic", "claude-max", "console", "sandbox")
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9]+")

Variables: TypeAlias = tuple[tuple[str, Secret | str], ...]


def variables_of(provider: Provider, credential: Credential) -> Variables:
    """The variables with which programs take this credential, and its address.

    A provider that declares none gets one made of its name. The address is set if programs would otherwise send the
    credential to Anthropic.
    """
    is_key = credential.kind == "api-key"
    is_anthropics = provider.provider_type in _ANTHROPIC_TYPES
    if provider.env_var is not None:
        return ((provider.env_var, credential.secret),)
    if not is_anthropics:
        stem = _NO_NAME.sub("_", provider.name).strip("_").upper() or "PROVIDER"
        stem = f"_{stem}" if stem[0].isdigit() else stem
        return ((f"{stem}_{'API_KEY' if is_key else 'TOKEN'}", credential.secret),)
    is_bearer = not is_key or provider.key_header == "authorization"
    variable = ("ANTHROPIC_AUTH_TOKEN" if is_bearer else "ANTHROPIC_API_KEY", credential.secret)
    if provider.base_url == ANTHROPIC_URL:
        return (variable,)
    return (variable, ("ANTHROPIC_BASE_URL", provider.base_url))


def variables_of_gateway(key: Secret, url: str | None, socket: Path | None = None) -> Variables:
    """The variables that send a program's requests through the gateway.

    Claude Code uses the socket if there is one; other programs need the URL. The socket has no TLS.
    """
    variables: Variables = (("ANTHROPIC_AUTH_TOKEN", key), ("ANTHROPIC_BASE_URL", url or SOCKET_URL))
    if socket is None or (url is not None and url.startswith("https:")):
        return variables
    return (*variables, ("ANTHROPIC_UNIX_SOCKET", str(socket)))


def assignments(variables: Iterable[tuple[str, Secret | str]]) -> list[str]:
    """`NAME=value` for each, with secrets revealed, quoted for a shell where needed."""
    return [
        f"{name}={shlex.quote(value.reveal() if isinstance(value, Secret) else value)}" for name, value in variables
    ]


def sample_request(model: str) -> str:
    """A command that sends the gateway one short question, for a shell with the lines of `setup_lines`."""
    question = {"model": model, "max_tokens": 32, "messages": [{"role": "user", "content": "Say hello."}]}
    return (
        'curl "$ANTHROPIC_BASE_URL/v1/messages" -H "authorization: Bearer $ANTHROPIC_AUTH_TOKEN" '
        f"-H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' -d {shlex.quote(json.dumps(question))}"
    )


def setup_lines(name: str, key: Secret, url: str) -> list[str]:
    """The lines to send to a colleague: in a shell with them, tools use the gateway with the client key `name`."""
    lines = [f"# tokenferry: client key {name}. Put these lines into your shell's profile, or run them before a tool."]
    lines += [f"export {line}" for line in assignments(variables_of_gateway(key, url))]
    if is_loopback(urlsplit(url).hostname):
        lines.append("# They work on this machine alone: its gateway listens on a loopback address.")
    return lines
