from msgspec.structs import replace

from tokenferry.pool import account_group
from tokenferry.providers import builtin_providers
from tokenferry.stores import Account

MAX = builtin_providers()["claude-max"]
LOGIN = Account("mine", "claude-max", "oauth")


def test_a_provider_may_list_an_account_of_the_type_that_it_is_derived_from() -> None:
    """As claude-code-mux's `oauth_provider` names a login, whatever the provider is called that uses it."""
    derived = replace(MAX, name="claude-oauth", accounts=("mine",))
    assert [account.name for account in account_group(derived, [LOGIN]).accounts] == ["mine"]
    assert account_group(derived, [LOGIN]).accounts[0].provider == "claude-oauth"


def test_it_gets_none_that_it_does_not_list_and_none_at_another_hosts() -> None:
    derived = replace(MAX, name="claude-oauth", accounts=("mine",))
    assert not account_group(replace(derived, accounts=None), [LOGIN]).accounts
    assert not account_group(replace(derived, accounts=("other",)), [LOGIN]).accounts
    assert not account_group(replace(derived, base_url="https://proxy.example"), [LOGIN]).accounts
    assert not account_group(replace(derived, provider_type="console"), [LOGIN]).accounts
