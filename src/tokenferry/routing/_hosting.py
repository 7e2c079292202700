"""Adapts requests to clouds that host another vendor's API: the path, and the body for Claude on Vertex AI.

Nothing is translated: the rest of the body stays unchanged.
"""

import re
from typing import Final
from urllib.parse import quote

import msgspec

from tokenferry.errors import Unfit
from tokenferry.providers import Provider

_MESSAGES: Final = "/v1/messages"
_COUNT: Final = "/v1/messages/count_tokens"
_VERSION: Final = b'"anthropic_version":"vertex-2023-10-16"'
"""The member that Vertex AI demands in place of the header: platform.claude.com/docs/en/api/claude-on-vertex-ai."""
_OF_DEPLOYMENTS: Final = frozenset(("/chat/completions", "/completions", "/embeddings"))
_UPWARDS: Final = re.compile(r"(?:.*[/\\])?\.{1,2}(?:[/\\].*)?", re.DOTALL)
"""Names that leave the path, as a proxy may decode percent-encoding."""


def hosted_target(provider: Provider, target: bytes, model: str, *, stream: bool = False) -> bytes:
    """Give the request target below the provider's base URL. Raises `Unfit` if the cloud has no counterpart."""
    path, _, query = target.decode("latin-1").partition("?")
    name = quote(model, safe="@")
    if provider.wire_format == "vertex-anthropic":
        if path == _COUNT:
            return b"/publishers/anthropic/models/count-tokens:rawPredict"
        if path != _MESSAGES or not name:
            raise Unfit(f"Vertex AI has no counterpart of {path}")
        _check_segment(model)
        call = "streamRawPredict" if stream else "rawPredict"
        return f"/publishers/anthropic/models/{name}:{call}".encode("ascii")
    if provider.api_version is None:
        return target
    if path in _OF_DEPLOYMENTS:
        if not name:
            raise Unfit(f"{path} needs a deployment, but the request names no model")
        _check_segment(model)
        path = f"/deployments/{name}{path}"
    query = "&".join(filter(None, (query, f"api-version={provider.api_version}")))
    return f"{path}?{query}".encode("latin-1")


def _check_segment(model: str) -> None:
    if _UPWARDS.fullmatch(model):
        raise Unfit("the model's name can't be part of a path")


def hosted_member(provider: Provider, target: bytes, model: str) -> bytes | None:
    """Give the replacement for the body's member `model`; None if it stays.

    On Vertex AI the path names the model, except when tokens are counted.
    """
    if provider.wire_format != "vertex-anthropic":
        return None
    if target.partition(b"?")[0].decode("latin-1") == _COUNT:
        return _VERSION + b',"model":' + msgspec.json.encode(model)
    return _VERSION
