import pytest

from tokenferry.pool import Roster
from tokenferry.providers import Provider
from tokenferry.routing import DefaultTargets, NoRoute, default_targets
from tokenferry.settings import GatewaySettings
from tokenferry.stores import Account


def provider(name: str, *, enabled: bool = True, accounts: tuple[str, ...] | None = None) -> Provider:
    return Provider(name, name, "https://api.example", enabled=enabled, accounts=accounts)


def account(name: str, provider: str) -> Account:
    return Account(name, provider, "api-key")


def chosen(
    providers: list[Provider], accounts: list[Account], settings: GatewaySettings | None = None
) -> tuple[str, list[str]]:
    """Of the first provider."""
    first = targets(providers, accounts, settings)[0]
    return first.provider, [one.name for one in first.members]


def found(
    providers: list[Provider], accounts: list[Account], settings: GatewaySettings | None = None
) -> DefaultTargets | NoRoute:
    return default_targets(settings or GatewaySettings(), {one.name: one for one in providers}, accounts)


def targets(
    providers: list[Provider], accounts: list[Account], settings: GatewaySettings | None = None
) -> tuple[Roster, ...]:
    chosen = found(providers, accounts, settings)
    assert isinstance(chosen, DefaultTargets)
    return chosen.rosters


def refused(providers: list[Provider], accounts: list[Account], settings: GatewaySettings | None = None) -> str:
    refusal = found(providers, accounts, settings)
    assert isinstance(refusal, NoRoute)
    assert (refusal.status, refusal.cause) == (503, "no_account")
    return refusal.message


A, B = provider("a"), provider("b")


def test_the_one_provider_with_accounts_serves_with_all_of_them_in_order() -> None:
    accounts = [account("x", "b"), account("y", "b")]
    assert chosen([A, B], accounts) == ("b", ["x", "y"])


def test_a_providers_own_list_restricts_and_orders() -> None:
    accounts = [account("x", "a"), account("y", "a"), account("z", "a")]
    assert chosen([provider("a", accounts=("z", "gone", "x"))], accounts) == ("a", ["z", "x"])


def test_a_pinned_account_serves_alone() -> None:
    accounts = [account("x", "a"), account("y", "b")]
    pinned = found([A, B], accounts, GatewaySettings(account="y"))
    assert isinstance(pinned, DefaultTargets)
    assert ([one.provider for one in pinned.rosters], pinned.pinned) == (["b"], "y")


def test_several_providers_serve_in_the_order_that_is_set() -> None:
    accounts = [account("x", "a"), account("y", "b")]
    ordered = targets([A, B], accounts, GatewaySettings(providers=("b", "a")))
    assert [one.provider for one in ordered] == ["b", "a"]
    assert chosen([A, B], accounts[:1], GatewaySettings(providers=("b", "a"))) == ("a", ["x"])


def test_several_providers_without_an_order_are_listed_with_the_key_to_set() -> None:
    message = refused([A, B], [account("x", "a"), account("y", "b")])
    assert "(a, b)" in message
    assert "providers = [...] under [gateway]" in message


def test_no_account_names_the_command_that_adds_one() -> None:
    assert "tokenferry accounts add NAME --provider anthropic" in refused([A], [])


@pytest.mark.parametrize(
    ("providers", "settings", "reason"),
    [
        ([B], GatewaySettings(), "provider a is not declared"),
        ([provider("a", enabled=False)], GatewaySettings(), "provider a is not enabled"),
        ([A, B], GatewaySettings(providers=("b",)), "provider a is not in [gateway] providers"),
        ([provider("a", accounts=("y",))], GatewaySettings(), "not among the accounts of provider a"),
    ],
)
def test_accounts_that_may_not_serve_are_told_with_the_reason(
    providers: list[Provider], settings: GatewaySettings, reason: str
) -> None:
    assert f"x ({reason})" in refused(providers, [account("x", "a")], settings)


def test_a_pinned_account_that_does_not_exist_is_told_with_those_that_do() -> None:
    message = refused([A], [account("x", "a")], GatewaySettings(account="y"))
    assert "'y'" in message
    assert "accounts: x" in message


@pytest.mark.parametrize("providers", [[B], [provider("a", enabled=False)], [provider("a", accounts=())]])
def test_a_pinned_account_needs_its_provider(providers: list[Provider]) -> None:
    assert "[[providers]] a" in refused(providers, [account("x", "a")], GatewaySettings(account="x"))
