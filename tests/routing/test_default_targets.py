import pytest
from msgspec.structs import replace

from tokenferry.pool import AccountGroup
from tokenferry.providers import Provider
from tokenferry.providers._provider import NOWHERE
from tokenferry.routing import DefaultTargets, NoRoute, default_targets
from tokenferry.routing._default_targets import default_targets_for
from tokenferry.settings import RouterSettings
from tokenferry.state import ClientKey, Rights
from tokenferry.stores import Account


def provider(name: str, *, enabled: bool = True, accounts: tuple[str, ...] | None = None) -> Provider:
    return Provider(name, name, "https://api.example", enabled=enabled, accounts=accounts)


def account(name: str, provider: str) -> Account:
    return Account(name, provider, "api-key")


def chosen(
    providers: list[Provider], accounts: list[Account], settings: RouterSettings | None = None
) -> tuple[str, list[str]]:
    """Of the first provider."""
    first = targets(providers, accounts, settings)[0]
    return first.provider, [one.name for one in first.accounts]


def found(
    providers: list[Provider],
    accounts: list[Account],
    settings: RouterSettings | None = None,
    default: str | None = "a",
) -> DefaultTargets | NoRoute:
    return default_targets(settings or RouterSettings(), {one.name: one for one in providers}, accounts, default)


def targets(
    providers: list[Provider], accounts: list[Account], settings: RouterSettings | None = None
) -> tuple[AccountGroup, ...]:
    chosen = found(providers, accounts, settings)
    assert isinstance(chosen, DefaultTargets)
    return chosen.groups


def refused(providers: list[Provider], accounts: list[Account], settings: RouterSettings | None = None) -> str:
    refusal = found(providers, accounts, settings)
    assert isinstance(refusal, NoRoute)
    assert (refusal.status, refusal.cause) == (503, "no_account")
    return refusal.message


A, B = provider("a"), provider("b")


def test_the_default_provider_serves_with_all_its_accounts_in_order_and_no_other_does() -> None:
    accounts = [account("w", "a"), account("x", "b"), account("y", "b")]
    serving = found([A, B], accounts, default="b")
    assert isinstance(serving, DefaultTargets)
    assert [(one.provider, list(one.by_name)) for one in serving.groups] == [("b", ["x", "y"])]


def test_a_providers_own_list_restricts_and_orders() -> None:
    accounts = [account("x", "a"), account("y", "a"), account("z", "a")]
    assert chosen([provider("a", accounts=("z", "gone", "x"))], accounts) == ("a", ["z", "x"])


def test_a_pinned_account_serves_alone() -> None:
    accounts = [account("x", "a"), account("y", "b")]
    pinned = found([A, B], accounts, RouterSettings(account="y"))
    assert isinstance(pinned, DefaultTargets)
    assert ([one.provider for one in pinned.groups], pinned.pinned) == (["b"], "y")


@pytest.mark.parametrize("settings", [RouterSettings(account="x"), RouterSettings(account="x", providers=("lent",))])
def test_a_pinned_account_serves_at_the_provider_that_it_is_lent_to(settings: RouterSettings) -> None:
    """Where its own provider is not enabled: at any other that lists it, and has it from the same vendor."""
    lent = Provider("lent", "anthropic", "https://api.anthropic.com", accounts=("x",))
    own = provider("anthropic", enabled=False)
    assert [one.provider for one in targets([own, A, lent], [account("x", "anthropic")], settings)] == ["lent"]


def test_several_providers_serve_in_the_order_that_is_set() -> None:
    accounts = [account("x", "a"), account("y", "b")]
    ordered = targets([A, B], accounts, RouterSettings(providers=("b", "a")))
    assert [one.provider for one in ordered] == ["b", "a"]
    assert chosen([A, B], accounts[:1], RouterSettings(providers=("b", "a"))) == ("a", ["x"])


def test_no_account_names_the_command_that_adds_one() -> None:
    for default, provider in ((None, "anthropic"), ("b", "b")):
        refusal = found([A, B], [], None, default)
        assert isinstance(refusal, NoRoute)
        assert refusal.message.endswith(f"tokenferry account add NAME --provider {provider}")


@pytest.mark.parametrize(
    ("providers", "default", "reason"),
    [
        ([B], None, "x (provider a is not declared)"),
        ([provider("a", enabled=False)], None, "x (provider a is not enabled)"),
        ([provider("a", accounts=("y",))], None, "x (not among the accounts of provider a)"),
        ([A, B], "b", "the default provider b has no account"),
        ([A], "b", "the default provider b is not declared"),
        ([provider("a", enabled=False)], "a", "the default provider a is not enabled"),
        ([provider("a", accounts=())], "a", "the default provider a lists none of its accounts"),
        (
            [A, provider("b", accounts=("y",))],
            "b",
            "b has no account; add one with: tokenferry account add y --provider b",
        ),
        ([Provider("a", "openai", NOWHERE, wire_format="openai")], "a", "the default provider a has no base_url"),
        ([A], "", "can't be read; see: tokenferry doctor"),
    ],
)
def test_why_no_account_serves_is_said_and_no_other_provider_proposed(
    providers: list[Provider], default: str | None, reason: str
) -> None:
    refusal = found(providers, [account("x", "a")], None, default)
    assert isinstance(refusal, NoRoute)
    assert reason in refusal.message
    assert "[router]" not in refusal.message


def test_where_those_that_are_set_have_no_account_it_is_theirs_that_is_missing() -> None:
    message = refused([A, B], [account("x", "a")], RouterSettings(providers=("c", "b")))
    assert "c is not declared, b has no account; add one with: tokenferry account add NAME --provider b" in message


def test_a_pinned_account_that_does_not_exist_is_reported_with_those_that_do() -> None:
    message = refused([A], [account("x", "a")], RouterSettings(account="y"))
    assert "'y'" in message
    assert "accounts: x" in message


@pytest.mark.parametrize("providers", [[B], [provider("a", enabled=False)], [provider("a", accounts=())]])
def test_a_pinned_account_needs_its_provider(providers: list[Provider]) -> None:
    assert "[[providers]] a" in refused(providers, [account("x", "a")], RouterSettings(account="x"))


@pytest.mark.parametrize("settings", [None, RouterSettings(providers=("a",))])
@pytest.mark.parametrize("others", [[account("x", "b")], [account("x", "b"), account("y", "a")]])
def test_the_command_adds_an_account_that_the_provider_uses(
    settings: RouterSettings | None, others: list[Account]
) -> None:
    """An account of another name would be stored and not used."""
    listing = provider("a", accounts=("anthropic-max",))
    command = "tokenferry account add anthropic-max --provider a"
    assert command in refused([listing, B], others, settings)
    assert isinstance(found([listing, B], [*others, account("anthropic-max", "a")], settings), DefaultTargets)


KEY = ClientKey("i", "guest", "client", created_at=0, fingerprint="f")


@pytest.mark.parametrize(
    ("rights", "settings", "expected"),
    [
        (Rights(pin="y"), RouterSettings(), ("b", ["y"], "the client key is pinned to the account")),
        (Rights(providers=("b",)), RouterSettings(), ("b", ["y", "z"], "the client key names it")),
        (Rights(accounts=("gone", "z")), RouterSettings(), ("b", ["z"], "the client key names it")),
        (Rights(accounts=("z", "x")), RouterSettings(), ("a", ["x"], "it is the default provider")),
        (Rights(accounts=("gone",)), RouterSettings(), None),
        (Rights(providers=("b",)), RouterSettings(providers=("a",)), None),
        (Rights(accounts=("x",)), RouterSettings(account="y"), None),
    ],
)
def test_a_keys_rights_restrict_what_serves_by_default(
    rights: Rights, settings: RouterSettings, expected: tuple[str, list[str], str] | None
) -> None:
    accounts = [account("x", "a"), account("y", "b"), account("z", "b")]
    chosen = default_targets_for(replace(KEY, rights=rights), settings, {"a": A, "b": B}, accounts, "a")
    if expected is None:
        assert isinstance(chosen, NoRoute)
        assert chosen.message.startswith("no account that client key guest may use can serve;")
    else:
        assert isinstance(chosen, DefaultTargets)
        (group,) = chosen.groups
        assert (group.provider, list(group.by_name), chosen.rule) == expected
        assert chosen.pinned == rights.pin


OWN = Provider("anthropic", "anthropic", "https://api.anthropic.com")
LENT = Provider("lent", "anthropic", "https://api.anthropic.com", accounts=("v",))


@pytest.mark.parametrize(
    ("rights", "order"),
    [
        (Rights(providers=("b", "anthropic")), ["b", "anthropic"]),
        (Rights(providers=("anthropic", "b"), accounts=("y", "v")), ["anthropic", "b"]),
        (Rights(accounts=("y", "v")), ["b", "anthropic"]),
        (Rights(accounts=("v", "gone", "y")), ["anthropic", "b"]),
        (Rights(models=("m",)), None),
    ],
)
def test_what_a_key_names_serves_in_its_order_and_an_account_at_its_own_provider(
    rights: Rights, order: list[str] | None
) -> None:
    providers = {one.name: one for one in (LENT, B, OWN)}
    accounts = [account("v", "anthropic"), account("y", "b")]
    chosen = default_targets_for(replace(KEY, rights=rights), RouterSettings(), providers, accounts, None)
    assert (None if isinstance(chosen, NoRoute) else [one.provider for one in chosen.groups]) == order
