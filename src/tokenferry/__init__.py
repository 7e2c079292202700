"""Log in once; every program on the machine gets a token that works."""

TYPE_CHECKING = False  # type checkers know this name, and `typing` itself costs more than all of this module
if TYPE_CHECKING:
    from tokenferry.broker import Broker as Broker
    from tokenferry.credentials import ApiKey as ApiKey
    from tokenferry.credentials import Credential as Credential
    from tokenferry.credentials import OAuthToken as OAuthToken
    from tokenferry.credentials import SetupToken as SetupToken
    from tokenferry.errors import TokenferryError as TokenferryError
    from tokenferry.secret import Secret as Secret

_HOME_OF = {
    "ApiKey": "credentials",
    "Broker": "broker",
    "Credential": "credentials",
    "OAuthToken": "credentials",
    "Secret": "secret",
    "SetupToken": "credentials",
    "TokenferryError": "errors",
}

__all__ = ["ApiKey", "Broker", "Credential", "OAuthToken", "Secret", "SetupToken", "TokenferryError"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562): importing tokenferry itself costs next to nothing."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tokenferry' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  # the point of this function

    value = getattr(import_module(f"tokenferry.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
