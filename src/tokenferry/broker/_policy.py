"""What `[policy] subscription` rules: credentials that are billed to a Claude subscription, and who may have them."""

from typing import Final

from tokenferry.credentials import Credential
from tokenferry.errors import PolicyRefused, UsageError
from tokenferry.providers import Provider
from tokenferry.settings import PolicySettings
from tokenferry.stores import Account, Document

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


def check_attached(provider: Provider, document: Document) -> None:
    """Raise `UsageError` for Claude Code's login as one of another provider, to whose host it would be sent."""
    if document.account.store == _CLAUDE_CODE and not provider.suits_claude_code(document.credential):
        raise UsageError(
            f"Claude Code's login is billed to a Claude subscription, and provider {provider.name!r} is for other "
            "credentials; leave --provider out"
        )
