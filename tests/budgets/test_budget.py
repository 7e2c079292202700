import pytest

from tokenferry.budgets import Budget, SpendingLimit
from tokenferry.settings import BudgetSettings


@pytest.mark.parametrize(
    ("text", "amount", "unit", "period"),
    [
        ("200usd/month", 200_000_000, "usd", "month"),
        ("0.5 usd/day", 500_000, "usd", "day"),
        ("1.5Mtokens/week", 1_500_000, "tokens", "week"),
        ("500k tokens / total", 500_000, "tokens", "total"),
        ("0usd/day", 0, "usd", "day"),
    ],
)
def test_a_limit_is_read_as_people_write_it(text: str, amount: int, unit: str, period: str) -> None:
    found = SpendingLimit.parse(text)
    assert found == (amount, unit, period)
    assert SpendingLimit.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "200", "200usd", "200 eur/month", "-1usd/day", "1usd/year", "0.5tokens/day", "1e9usd/day", "9999Gusd/day"],
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|more than"):
        SpendingLimit.parse(text)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (BudgetSettings("everybody", "1usd/day"), "subject"),
        (BudgetSettings("key:", "1usd/day"), "subject"),
        (BudgetSettings("all", "much"), "limit"),
        (BudgetSettings("all", "1usd/day", timezone="Middle/Earth"), "timezone"),
    ],
)
def test_the_fault_names_the_key_of_the_settings(settings: BudgetSettings, key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key} must"):
        Budget.of(settings)


def test_a_subject_is_a_key_by_name_or_id_a_group_by_label_or_everybody() -> None:
    def covers(subject: str, **labels: str) -> bool:
        return Budget.of(BudgetSettings(subject, "1usd/day")).covers("key_1", "laptop", labels)

    assert covers("all")
    assert covers("key:laptop")
    assert covers("key:LAPTOP")
    assert covers("key:key_1")
    assert not covers("key:ci")
    assert covers("group:build", group="build")
    assert not covers("group:build", group="other")
    assert not covers("group:build")


def test_another_amount_is_the_same_budget_and_another_period_is_not() -> None:
    one = Budget.of(BudgetSettings("all", "1usd/day"))
    assert Budget.of(BudgetSettings("all", "2usd/day", mode="warn")).identity == one.identity
    others = [
        BudgetSettings("all", "1usd/week"),
        BudgetSettings("all", "1tokens/day"),
        BudgetSettings("all", "1usd/day", per="key"),
        BudgetSettings("all", "1usd/day", timezone="Europe/Berlin"),
    ]
    assert len({Budget.of(other).identity for other in others} | {one.identity}) == len(others) + 1
