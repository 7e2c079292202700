"""What `[policy] subscription` rules: credentials that are billed to a Claude subscription, and who may have them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from tokenferry.credentials import Credential
from tokenferry.errors import PolicyRefused, UsageError
from tokenferry.providers import Provider
from tokenferry.settings import PolicySettings
from tokenferry.stores import Account, Document

if TYPE_CHECKING:
    from tokenferry.state import ClientKey  # brings SQLite, which few things here need

OWNER_LABEL: Final = "owner"
OWNER: Final = "me"
_CLAUDE_CODE: Final = "claude-code"


def bills_subscription(provider: Provider, account: Account, credential: Credential) -> bool:
    """Whether the account's use is billed to a Claude subscription.

    Claude Code's own login is one whatever it says of itself, but for one of a provider on this machine.
    """
    is_claude_codes = account.store == _CLAUDE_CODE and not provider.is_local
    return is_claude_codes or provider.bills_subscription(credential)


def check_policy(policy: PolicySettings, provider: Provider, document: Document) -> None:
    """Raise `PolicyRefused` unless the credential may be handed to others than Claude Code."""
    if policy.subscription == "off" and bills_subscription(provider, document.account, document.credential):
        raise PolicyRefused(
            f"account {document.account.name!r} is billed to a Claude subscription, which tokenferry hands to nobody "
            "but Claude Code itself; if it is yours alone and you read the vendor's terms, say so with: tokenferry "
            'policy set own; or set subscription = "own" under [policy] in config.toml; API keys and Console '
            "logins work without that"
        )


def is_foreign(key: "ClientKey") -> bool:
    """Whether a client key is somebody else's: its label `owner` says whose, and `me` is who runs the gateway."""
    return key.labels.get(OWNER_LABEL, OWNER) != OWNER


def check_key(key: "ClientKey", billed: Mapping[str, str]) -> None:
    """Raise `PolicyRefused` where a foreign key could be served a subscription that is its operator's alone.

    `billed` are the accounts that are billed to one, with their providers. A key that isn't limited to accounts could
    be served one that is added later.
    """
    if key.admin or not is_foreign(key):
        return
    owner, rights = key.labels[OWNER_LABEL], key.rights
    if not (rights.accounts or rights.pin):
        reason = "may use every account"
    else:
        allowed = [name for name, provider in billed.items() if rights.allows_account(name, provider)]
        if not allowed:
            return
        reason = f"may use {' and '.join(allowed)}, which is billed to a Claude subscription"
    raise PolicyRefused(
        f"client key {key.name} is {owner}'s and {reason}, and under the policy own a subscription is used by its "
        f"owner alone; limit the key with: tokenferry key set {key.name} --account NAME; or revoke it; or first: "
        "tokenferry policy set off"
    )


def check_attached(provider: Provider, document: Document) -> None:
    """Raise `UsageError` for Claude Code's login as one of another provider, to whose host it would be sent."""
    if document.account.store == _CLAUDE_CODE and not provider.suits_claude_code(document.credential):
        raise UsageError(
            f"Claude Code's login is billed to a Claude subscription, and provider {provider.name!r} is for other "
            "credentials; leave --provider out"
        )
