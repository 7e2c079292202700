"""Where a cloud takes the requests of an API that it hosts: at another path, for Claude on Vertex AI in another body.

Nothing is translated: every byte of the body that isn't named here stays as it is.
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
"""What Vertex AI wants in the body, in place of the header; platform.claude.com/docs/en/api/claude-on-vertex-ai."""
_OF_DEPLOYMENTS: Final = frozenset(("/chat/completions", "/completions", "/embeddings"))
_UPWARDS: Final = re.compile(r"(?:.*[/\\])?\.{1,2}(?:[/\\].*)?", re.DOTALL)
"""Names that lead out of a path; a server on the way may decode what is percent-encoded."""


def hosted_target(provider: Provider, target: bytes, model: str, *, stream: bool = False) -> bytes:
    """The target below the provider's base URL for one of its format's own. Raises `Unfit` where it has none."""
    path, _, query = target.decode("latin-1").partition("?")
    name = quote(model, safe="@")
    if provider.wire_format == "vertex-anthropic":
        if path == _COUNT:
            return b"/publishers/anthropic/models/count-tokens:rawPredict"
        if path != _MESSAGES or not name:
            raise Unfit(f"Vertex AI has nothing like {path}")
        _check_segment(model)
        call = "streamRawPredict" if stream else "rawPredict"
        return f"/publishers/anthropic/models/{name}:{call}".encode("ascii")
    if provider.api_version is None:
        return target
    if path in _OF_DEPLOYMENTS:
        if not name:
            raise Unfit(f"a deployment takes {path}, and the request names no model")
        _check_segment(model)
        path = f"/deployments/{name}{path}"
    query = "&".join(filter(None, (query, f"api-version={provider.api_version}")))
    return f"{path}?{query}".encode("latin-1")


def _check_segment(model: str) -> None:
    if _UPWARDS.fullmatch(model):
        raise Unfit("the model's name is no path")


def hosted_member(provider: Provider, target: bytes, model: str) -> bytes | None:
    """What takes the place of the body's member that names the model; None where that stays.

    On Vertex AI the path has the model, but for a count of tokens.
    """
    if provider.wire_format != "vertex-anthropic":
        return None
    if target.partition(b"?")[0].decode("latin-1") == _COUNT:
        return _VERSION + b',"model":' + msgspec.json.encode(model)
    return _VERSION
