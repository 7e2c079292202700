import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tokenferry.pool import account_group
from tokenferry.providers import builtin_providers
from tokenferry.stores import Account

PRIORITIES = st.integers(-1000, 1000)
MAX = builtin_providers()["claude-max"]
LOGIN = Account("mine", "claude-max", "oauth")


@given(st.lists(PRIORITIES, min_size=1, max_size=6), st.data())
def test_the_account_in_use_comes_first_whatever_the_priorities_and_the_others_keep_their_order(
    priorities: list[int], data: st.DataObject
) -> None:
    used = data.draw(st.integers(0, len(priorities) - 1))
    accounts = [
        Account(f"a{number}", "anthropic", "api-key", priority=priority, in_use=number == used)
        for number, priority in enumerate(priorities)
    ]
    ordered = account_group(builtin_providers()["anthropic"], accounts).accounts
    assert ordered[0].name == f"a{used}"
    others = [one.name for one in sorted(accounts, key=lambda one: one.priority) if not one.in_use]
    assert [one.name for one in ordered[1:]] == others
    assert all(one.priority > ordered[0].priority for one in ordered[1:])


def test_an_account_in_use_at_another_provider_changes_nothing() -> None:
    accounts = [Account("a", "anthropic", "api-key"), Account("b", "console", "oauth", in_use=True)]
    assert [one.name for one in account_group(builtin_providers()["anthropic"], accounts).accounts] == ["a"]


KEY = Account("a", "anthropic", "api-key")


@pytest.mark.parametrize(
    ("account", "about", "expected"),
    [
        (Account("a", "claude-max", "oauth"), "bills_subscription", True),
        (KEY, "bills_subscription", False),
        (replace(KEY, kind="setup-token"), "bills_subscription", True),
        (replace(KEY, owner="claude-code"), "bills_subscription", True),
        (Account("a", "sandbox", "oauth"), "has_usage_url", True),
        (Account("a", "sandbox", "api-key"), "has_usage_url", False),
        (replace(KEY, kind="oauth"), "has_usage_url", False),
        (KEY, "paused_until", 0.0),
        (replace(KEY, paused=True), "paused_until", math.inf),
        (replace(KEY, paused=True, paused_until=5), "paused_until", 5),
        (KEY, "has_command", False),
        (replace(KEY, store="command"), "has_command", True),
    ],
)
def test_a_pool_knows_an_accounts_bill_usage_report_pause_and_command(
    account: Account, about: str, expected: object
) -> None:
    (found,) = account_group(builtin_providers()[account.provider], [account]).accounts
    assert getattr(found, about) == expected


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
