import logging
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from tokenferry.credentials import CLIENT_KEY_PREFIXES, SETUP_TOKEN_PREFIX, ApiKey, Credential, OAuthToken
from tokenferry.providers import account_of_key
from tokenferry.secret import Secret, parse_secret
from tokenferry.stores import Account, Document

logger = logging.getLogger(__name__)

ENVIRONMENT: Final = "environment"
CONFIGURATION: Final = "config"
_LAST: Final = 1000
_VENDOR_URL: Final = "https://api.anthropic.com"


def accounts_from_environment(environ: Mapping[str, str]) -> dict[str, Document]:
    """Return the accounts in ANTHROPIC_API_KEY and ANTHROPIC_AUTH_TOKEN, by the variable's name.

    It leaves out keys of our own gateway, which would call itself, and tokens of other vendors. It leaves out both
    variables if ANTHROPIC_BASE_URL names another host, since they are meant for that.
    """
    found: dict[str, Document] = {}
    if not _is_vendor(environ.get("ANTHROPIC_BASE_URL") or _VENDOR_URL):
        return found
    for variable in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        value = environ.get(variable, "").strip()
        is_foreign = variable == "ANTHROPIC_AUTH_TOKEN" and not value.startswith("sk-ant-")
        if not value or is_foreign or value.startswith(CLIENT_KEY_PREFIXES):
            continue
        try:
            credential, provider = _classify(parse_secret(value))
        except ValueError as fault:
            logger.warning("%s is ignored: %s", variable, fault)
            continue
        account = Account(variable, provider, credential.kind, owner="external", store=ENVIRONMENT, priority=_LAST)
        found[variable] = Document(account, credential)
    return found


def _is_vendor(url: str) -> bool:
    try:
        return urlsplit(url).hostname == urlsplit(_VENDOR_URL).hostname
    except ValueError:
        return False


def _classify(secret: Secret) -> tuple[Credential, str]:
    value = secret.reveal()
    if value.startswith(SETUP_TOKEN_PREFIX):
        return OAuthToken(secret, source=ENVIRONMENT), "claude-max"
    del value
    return ApiKey(secret), "anthropic"


def accounts_from_keys(keys: Mapping[str, ApiKey]) -> dict[str, Document]:
    """Return the accounts that providers' `api_key` in the configuration creates, by name."""
    found = {}
    for provider, key in keys.items():
        name = account_of_key(provider)
        found[name] = Document(Account(name, provider, key.kind, owner="external", store=CONFIGURATION), key)
    return found
