"""The wire formats, which of them the gateway serves, and the variables by which their clients find a gateway."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from tokenferry.claude_code.precedence import CLOUD_PROVIDERS

ApiFormat: TypeAlias = Literal["anthropic", "openai", "openai-responses", "gemini"]

SERVED: Final[frozenset[ApiFormat]] = frozenset({"anthropic", "openai", "openai-responses", "gemini"})
"""The formats that the gateway serves to clients. `setup`, the guide and `run` use only this."""


class ClientFormat(Struct, frozen=True):
    """How clients of one wire format find a gateway.

    `base_url` and `key` are variables, `path` is the end of the address. Variables in `shadows`, and those with a
    prefix of `shadow_prefixes`, would lead a client past the gateway: other credentials or their sources, or other
    addresses.
    """

    title: str
    base_url: str
    key: str
    path: str
    shadows: frozenset[str]
    shadow_prefixes: tuple[str, ...] = ()


_ANTHROPIC: Final = ClientFormat(
    "Anthropic Messages",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_AUTH_TOKEN",
    "",
    # What Claude Code and the SDKs read; a test compares them with Claude Code's binary.
    frozenset(
        (
            *CLOUD_PROVIDERS,
            "ANTHROPIC_API_BASE",  # LiteLLM, and so aider
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_API_URL",  # LangChain, before ANTHROPIC_BASE_URL
            "ANTHROPIC_CUSTOM_HEADERS",
            "ANTHROPIC_FEDERATION_RULE_ID",
            "ANTHROPIC_IDENTITY_TOKEN",
            "ANTHROPIC_IDENTITY_TOKEN_FILE",
            "ANTHROPIC_ORGANIZATION_ID",
            "ANTHROPIC_PROFILE",
            "ANTHROPIC_SCOPE",
            "ANTHROPIC_SERVICE_ACCOUNT_ID",
            "ANTHROPIC_UNIX_SOCKET",
            "ANTHROPIC_WORKSPACE_ID",
            "CLAUDE_CODE_API_BASE_URL",
            "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
            "CLAUDE_CODE_GATEWAY_TOKEN",
            "CLAUDE_CODE_GATEWAY_TOKEN_FILE_DESCRIPTOR",
            "CLAUDE_CODE_HOST_CREDS_FILE",
            "CLAUDE_CODE_OAUTH_REFRESH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
            "CLAUDE_CODE_SESSIONS_OAUTH_TOKEN",
            "CLAUDE_CODE_SESSION_ACCESS_TOKEN",
            "CLAUDE_CODE_USE_GATEWAY",
        )
    ),
    # Addresses, keys and projects of the cloud providers' clients.
    tuple(f"ANTHROPIC_{cloud}_" for cloud in ("AWS", "BEDROCK", "FOUNDRY", "GOOGLE_CLOUD", "VERTEX")),
)
_OPENAI_SHADOWS: Final = frozenset(
    (
        "CODEX_API_KEY",
        "OPENAI_API_BASE",  # LiteLLM and LangChain
        "OPENAI_API_HOST",
        "OPENAI_ORGANIZATION",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT",
        "OPENAI_PROJECT_ID",
    )
)
CLIENT_FORMATS: Final[Mapping[ApiFormat, ClientFormat]] = MappingProxyType(
    {
        "anthropic": _ANTHROPIC,
        "openai": ClientFormat(
            "OpenAI Chat Completions", "OPENAI_BASE_URL", "OPENAI_API_KEY", "/v1", _OPENAI_SHADOWS, ("AZURE_OPENAI_",)
        ),
        "openai-responses": ClientFormat(
            "OpenAI Responses", "OPENAI_BASE_URL", "OPENAI_API_KEY", "/v1", _OPENAI_SHADOWS, ("AZURE_OPENAI_",)
        ),
        "gemini": ClientFormat(
            "Gemini",
            "GOOGLE_GEMINI_BASE_URL",
            "GEMINI_API_KEY",
            "",
            frozenset(
                (
                    "CODE_ASSIST_ENDPOINT",  # the Gemini CLI, for logins with Google
                    "GEMINI_CLI_CUSTOM_HEADERS",
                    "GOOGLE_API_KEY",
                    "GOOGLE_GENAI_API_VERSION",
                    "GOOGLE_GENAI_USE_ENTERPRISE",
                    "GOOGLE_GENAI_USE_GCA",
                    "GOOGLE_GENAI_USE_VERTEXAI",
                    "GOOGLE_VERTEX_BASE_URL",
                )
            ),
        ),
    }
)
_HERE: Final = ("127.0.0.1", "localhost")


def client_environment(
    environ: Mapping[str, str], url: str, key: str, served: Iterable[ApiFormat] = SERVED
) -> dict[str, str]:
    """Give the environment of a program whose requests of these formats go to this gateway with this key.

    Other credentials of these formats are removed; those of other formats stay.
    """
    formats = [CLIENT_FORMATS[one] for one in served]
    shadows = frozenset().union(*(one.shadows for one in formats))
    prefixes = tuple(prefix for one in formats for prefix in one.shadow_prefixes)
    rest = {name: value for name, value in environ.items() if name not in shadows and not name.startswith(prefixes)}
    # A proxy must not be asked for the way to this machine, nor see the key. Programs read one spelling or the other,
    # so each says what the user said in either.
    for name, other in (("NO_PROXY", "no_proxy"), ("no_proxy", "NO_PROXY")):
        rest[name] = _no_proxy(environ.get(name) or environ.get(other) or "")
    for one in formats:
        rest |= {one.base_url: url + one.path, one.key: key}
    return rest


def _no_proxy(value: str) -> str:
    """Give the list with this machine added. `*` means every host only if it is alone."""
    if value.strip() == "*":
        return value
    return ",".join(filter(None, (value, *_HERE)))
