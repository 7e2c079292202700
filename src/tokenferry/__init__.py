"""Log in once; every program on the machine gets a token that works."""

TYPE_CHECKING = False  # type checkers know this name, and `typing` itself costs more than all of this module
if TYPE_CHECKING:
    from tokenferry.broker import Broker as Broker
    from tokenferry.broker import aresolve as aresolve
    from tokenferry.broker import default_broker as default_broker
    from tokenferry.broker import invalidate as invalidate
    from tokenferry.broker import resolve as resolve
    from tokenferry.broker import select_next_account_for_swap as select_next_account_for_swap
    from tokenferry.broker import swap_to_next_available_account as swap_to_next_available_account
    from tokenferry.credentials import ApiKey as ApiKey
    from tokenferry.credentials import Credential as Credential
    from tokenferry.credentials import ExchangedToken as ExchangedToken
    from tokenferry.credentials import FederatedToken as FederatedToken
    from tokenferry.credentials import OAuthToken as OAuthToken
    from tokenferry.credentials import SetupToken as SetupToken
    from tokenferry.errors import ConfigError as ConfigError
    from tokenferry.errors import CredentialRefused as CredentialRefused
    from tokenferry.errors import NeedsLogin as NeedsLogin
    from tokenferry.errors import PolicyRefused as PolicyRefused
    from tokenferry.errors import TokenferryError as TokenferryError
    from tokenferry.errors import TryLater as TryLater
    from tokenferry.errors import UnknownName as UnknownName
    from tokenferry.errors import UsageError as UsageError
    from tokenferry.errors import extract_login_url_from_error as extract_login_url_from_error
    from tokenferry.in_process import anthropic as anthropic
    from tokenferry.in_process import async_anthropic as async_anthropic
    from tokenferry.in_process import async_httpx_client as async_httpx_client
    from tokenferry.in_process import async_openai as async_openai
    from tokenferry.in_process import async_transport as async_transport
    from tokenferry.in_process import genai as genai
    from tokenferry.in_process import httpx_client as httpx_client
    from tokenferry.in_process import openai as openai
    from tokenferry.in_process import private_gateway as gateway
    from tokenferry.in_process import private_gateway as private_gateway
    from tokenferry.in_process import transport as transport
    from tokenferry.integrations import anthropic_credentials as anthropic_credentials
    from tokenferry.integrations import async_anthropic_credentials as async_anthropic_credentials
    from tokenferry.integrations import async_openai_api_key as async_openai_api_key
    from tokenferry.integrations import auth as auth
    from tokenferry.integrations import openai_api_key as openai_api_key
    from tokenferry.secret import Secret as Secret
    from tokenferry.stores import Account as Account
    from tokenferry.stores import Document as Document
    from tokenferry.stores import MemoryStore as MemoryStore
    from tokenferry.stores import Store as Store

__version__ = "0.2.0"

_ROOMS = {
    "broker": (
        "Broker",
        "aresolve",
        "default_broker",
        "invalidate",
        "resolve",
        "select_next_account_for_swap",
        "swap_to_next_available_account",
    ),
    "credentials": ("ApiKey", "Credential", "ExchangedToken", "FederatedToken", "OAuthToken", "SetupToken"),
    "errors": (
        "ConfigError",
        "CredentialRefused",
        "NeedsLogin",
        "PolicyRefused",
        "TokenferryError",
        "TryLater",
        "UnknownName",
        "UsageError",
        "extract_login_url_from_error",
    ),
    "in_process": (
        "anthropic",
        "async_anthropic",
        "async_httpx_client",
        "async_openai",
        "async_transport",
        "genai",
        "httpx_client",
        "openai",
        "private_gateway",
        "transport",
    ),
    "integrations": (
        "anthropic_credentials",
        "async_anthropic_credentials",
        "async_openai_api_key",
        "auth",
        "openai_api_key",
    ),
    "secret": ("Secret",),
    "stores": ("Account", "Document", "MemoryStore", "Store"),
}

__all__ = [
    "Account",
    "ApiKey",
    "Broker",
    "ConfigError",
    "Credential",
    "CredentialRefused",
    "Document",
    "ExchangedToken",
    "FederatedToken",
    "MemoryStore",
    "NeedsLogin",
    "OAuthToken",
    "PolicyRefused",
    "Secret",
    "SetupToken",
    "Store",
    "TokenferryError",
    "TryLater",
    "UnknownName",
    "UsageError",
    "anthropic",
    "anthropic_credentials",
    "aresolve",
    "async_anthropic",
    "async_anthropic_credentials",
    "async_httpx_client",
    "async_openai",
    "async_openai_api_key",
    "async_transport",
    "auth",
    "default_broker",
    "extract_login_url_from_error",
    "gateway",
    "genai",
    "httpx_client",
    "invalidate",
    "openai",
    "openai_api_key",
    "private_gateway",
    "resolve",
    "select_next_account_for_swap",
    "swap_to_next_available_account",
    "transport",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562): importing tokenferry itself costs next to nothing."""
    room = next((room for room, names in _ROOMS.items() if name in names), None)
    if room is None and name != "gateway":
        raise AttributeError(f"module 'tokenferry' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  # the point of this function

    if room is None:
        return import_module("tokenferry.gateway")  # a room that can be called
    value = getattr(import_module(f"tokenferry.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
