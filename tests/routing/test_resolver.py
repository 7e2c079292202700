"""Who may serve a request, by configuration, accounts, key and the credential that came with it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from tokenferry.providers import Provider
from tokenferry.routing import (
    OWN,
    BodyFacts,
    NoRoute,
    RoutePlan,
    Router,
    RouteRequest,
    RouteResolver,
    scan,
)
from tokenferry.secret import Secret
from tokenferry.settings import ModelMapping, ModelSettings, RouterSettings, RuleSettings
from tokenferry.state import ClientKey, Rights
from tokenferry.stores import Account

URL = "https://llm.example"
PROVIDERS = {
    "first": Provider("first", "first", URL),
    "second": Provider("second", "second", URL, passthrough=True),
    "third": Provider("third", "third", URL),
}
ALICE, BOB = Account("alice", "first", "api-key"), Account("bob", "second", "api-key")
ERRANDS = ModelSettings("errands", (ModelMapping("second", "vendor/small"), ModelMapping("first", "claude-small")))
ROUTER = RouterSettings(
    background="errands", rules=(RuleSettings("team", "errands", headers=(("x-team", "^research$"),)),)
)
KEY = ClientKey("i", "guest", "client", created_at=0, fingerprint="f")
OWN_CREDENTIAL = Secret("own-key-of-the-client")


@dataclass(frozen=True)
class Listing:
    accounts: Sequence[Account]
    default_provider: str | None = "first"


def facts_of(body: bytes) -> BodyFacts:
    facts = scan([body])
    assert isinstance(facts, BodyFacts)
    return facts


def request(model: str | None = None, *, own: Secret | None = None) -> RouteRequest:
    return RouteRequest(None if model is None else facts_of(f'{{"model":"{model}"}}'.encode()), [], own)


def resolver(
    settings: RouterSettings | None = None,
    router: RouterSettings | None = None,
    models: Sequence[ModelSettings] = (),
    accounts: Sequence[Account] = (ALICE, BOB),
) -> RouteResolver:
    listing = Listing(accounts)
    routes = Router(router, models, PROVIDERS)
    return RouteResolver(settings or RouterSettings(), PROVIDERS, routes, lambda: listing)


def plan(found: RoutePlan | NoRoute) -> RoutePlan:
    assert isinstance(found, RoutePlan), found
    return found


def refusal(found: RoutePlan | NoRoute) -> NoRoute:
    assert isinstance(found, NoRoute), found
    return found


def asked(found: RoutePlan | NoRoute) -> list[tuple[str, str]]:
    """The providers in their order, each with what it calls the model."""
    return [(target.group.provider, target.model) for target in plan(found).targets]


def test_what_follows_from_the_accounts_is_kept_as_long_as_they_are_the_same() -> None:
    listings = [Listing((ALICE,)), Listing((ALICE, Account("carol", "first", "api-key")))]
    found = RouteResolver(RouterSettings(), PROVIDERS, Router(), lambda: listings[0])
    first = plan(found.resolve(request("m"), KEY))
    assert found.resolve(request("m"), KEY) is first
    assert not first.is_own
    assert not first.without_tag, "the body stays as it is"
    del listings[0]
    second = plan(found.resolve(request("m"), KEY))
    assert [list(one.targets[0].group.by_name) for one in (first, second)] == [["alice"], ["alice", "carol"]]


def test_one_account_for_everything_that_does_not_exist_serves_nothing() -> None:
    found = resolver(RouterSettings(account="gone"), ROUTER, [ERRANDS]).resolve(request("errands"), KEY)
    assert "[router] account names 'gone'" in refusal(found).message


def test_a_plan_names_the_rule_of_a_model_that_keeps_its_name() -> None:
    found = resolver(router=ROUTER, models=[ERRANDS]).resolve(request("errands"), KEY)
    assert plan(found).rule == "default: no rule applied, so the model keeps its name"


def test_one_account_for_everything_serves_also_what_is_mapped_elsewhere() -> None:
    only = (ModelSettings("errands", (ModelMapping("second", "x"),)),)
    found = resolver(RouterSettings(account="alice"), ROUTER, only)
    assert asked(found.resolve(request("errands"), KEY)) == [("first", "errands")]


@pytest.mark.parametrize(
    ("rights", "expected"),
    [
        (Rights(providers=("first",)), ("first", "claude-small")),
        (Rights(accounts=("bob",)), ("second", "vendor/small")),
        (Rights(pin="alice"), ("first", "claude-small")),
    ],
)
def test_a_key_with_rights_gets_what_it_may_use(rights: Rights, expected: tuple[str, str]) -> None:
    found = resolver(router=ROUTER, models=[ERRANDS]).resolve(request("errands"), replace(KEY, rights=rights))
    assert asked(found) == [expected]
    assert plan(found).pinned == rights.pin


def test_a_key_is_refused_without_a_word_of_what_it_may_not_use() -> None:
    only = (ModelSettings("errands", (ModelMapping("third", "x"),)),)
    found = resolver(RouterSettings(providers=("third",)), ROUTER, only)
    denied = refusal(found.resolve(request("errands"), replace(KEY, rights=Rights(accounts=("alice",)))))
    assert "third" not in denied.message
    assert "client key guest may use" in denied.message


def test_a_model_that_the_key_may_not_ask_for_is_refused_whoever_would_serve_it() -> None:
    found = resolver(accounts=(ALICE,))
    key = replace(KEY, rights=Rights(models=("a*",)))
    assert refusal(found.resolve(request("b"), key)).cause == "model_denied"
    assert refusal(found.resolve(request("b", own=OWN_CREDENTIAL), key)).cause == "model_denied"
    assert asked(found.resolve(request("ab"), key)) == [("first", "ab")]


def test_a_clients_own_credential_goes_to_the_first_provider_that_takes_it() -> None:
    found = plan(resolver(accounts=()).resolve(request("m", own=OWN_CREDENTIAL), KEY))
    assert found.is_own
    assert [(target.group.provider, target.model, list(target.group.by_name)) for target in found.targets] == [
        ("second", "m", [OWN])
    ]
    routed = resolver(router=ROUTER, models=[ERRANDS]).resolve(request("errands", own=OWN_CREDENTIAL), KEY)
    assert asked(routed) == [("second", "vendor/small")]


@pytest.mark.parametrize(
    "rights", [Rights(pin="alice"), Rights(accounts=("alice", "bob")), Rights(providers=("first",))]
)
def test_a_key_that_may_not_go_there_takes_its_own_credential_nowhere(rights: Rights) -> None:
    for settings in (RouterSettings(), RouterSettings(providers=("first",))):
        found = resolver(settings).resolve(request("m", own=OWN_CREDENTIAL), replace(KEY, rights=rights))
        assert not plan(found).is_own


def test_a_clients_own_credential_goes_nowhere_for_a_model_that_is_refused() -> None:
    router = RouterSettings(unmapped="reject")
    found = resolver(router=router, models=[ERRANDS])
    assert refusal(found.resolve(request("m", own=OWN_CREDENTIAL), KEY)).cause == "unmapped_model"
    assert refusal(found.resolve_model("m", KEY)).cause == "unmapped_model"


@pytest.mark.parametrize("rights", [Rights(), Rights(models=("a*",))])
def test_a_request_without_a_body_goes_by_default_whatever_models_its_key_may_use(rights: Rights) -> None:
    found = plan(resolver().resolve(request(own=OWN_CREDENTIAL), replace(KEY, rights=rights)))
    assert found.is_own
    assert not found.without_tag


def test_a_body_with_too_many_names_of_models_is_refused() -> None:
    facts = facts_of(b'{"model":"m","models":[' + b",".join([b'"m"'] * 10_000) + b"]}")
    key = replace(KEY, rights=Rights(models=("m",)))
    found = refusal(resolver(router=ROUTER, models=[ERRANDS]).resolve(RouteRequest(facts), key))
    assert (found.status, found.cause) == (400, "too_complex")
