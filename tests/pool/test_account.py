from hypothesis import given
from hypothesis import strategies as st

from tokenferry.pool import account_group
from tokenferry.providers import builtin_providers
from tokenferry.stores import Account

PRIORITIES = st.integers(-1000, 1000)


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
