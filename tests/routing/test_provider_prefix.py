"""A provider's name before a model's: `openai/gpt-5` reaches that provider without a `[[models]]` table."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.test_resolver import KEY, OWN_CREDENTIAL, Listing, asked, plan, refusal, request
from tokenferry.providers import Provider
from tokenferry.routing import Router, RouteResolver
from tokenferry.settings import ModelMapping, ModelSettings, RouterSettings, RuleSettings
from tokenferry.state import ClientKey, Rights
from tokenferry.stores import Account

URL = "https://llm.example"
PROVIDERS = {
    "native": Provider("native", "native", URL),
    "openai": Provider("openai", "openai", f"{URL}/v1", wire_format="openai"),
    "router": Provider("router", "router", URL, slash_names=True, passthrough=True),
    "google": Provider("google", "google", URL, wire_format="gemini"),
    "off": Provider("off", "off", URL, enabled=False),
    "bare": Provider("bare", "bare", URL),
}
ACCOUNTS = tuple(Account(name[0], name, "api-key") for name in ("native", "openai", "router", "google"))


def resolver(
    settings: RouterSettings | None = None,
    models: Sequence[ModelSettings] = (),
    *,
    default: str | None = "native",
    accounts: Sequence[Account] = ACCOUNTS,
) -> RouteResolver:
    settings = settings or RouterSettings()
    listing = Listing(accounts, default)
    return RouteResolver(settings, PROVIDERS, Router(settings, models, PROVIDERS), lambda: listing)


def guest(**rights: object) -> ClientKey:
    return ClientKey("i", "guest", "client", created_at=0, fingerprint="f", rights=Rights(**rights))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/gpt-5", ("openai", "gpt-5")),
        ("openai/org/gpt-5", ("openai", "org/gpt-5")),
        ("native/claude", ("native", "claude")),
        ("router/openai/gpt-5", ("router", "openai/gpt-5")),
        ("gpt-5", ("native", "gpt-5")),
        ("openai/", ("native", "openai/")),
        ("/openai", ("native", "/openai")),
        ("OpenAI/gpt-5", ("native", "OpenAI/gpt-5")),
        ("mistral/large", ("native", "mistral/large")),
    ],
)
def test_a_declared_providers_name_leads_there_and_any_other_is_a_part_of_the_models(
    model: str, expected: tuple[str, str]
) -> None:
    found = resolver()
    assert asked(found.resolve(request(model), KEY)) == [expected]
    assert asked(found.resolve_model(model, KEY)) == [expected], "what is explained is what happens"


def test_it_is_reported_as_the_rule_that_decided() -> None:
    found = plan(resolver().resolve(request("openai/gpt-5"), KEY))
    assert found.rule == (
        "provider_prefix: its name begins with that of provider openai, so openai/gpt-5 goes to gpt-5"
    )


def test_a_name_of_models_goes_first() -> None:
    models = [ModelSettings("openai/gpt-5", (ModelMapping("native", "claude"),))]
    found = resolver(models=models)
    assert asked(found.resolve(request("OpenAI/GPT-5"), KEY)) == [("native", "claude")]
    assert asked(found.resolve(request("openai/gpt-6"), KEY)) == [("openai", "gpt-6")]


@pytest.mark.parametrize(
    ("settings", "default"),
    [
        (RouterSettings(), "router"),
        (RouterSettings(providers=("router",)), "native"),
        (RouterSettings(account="r"), "native"),
    ],
)
def test_a_default_provider_whose_models_have_such_names_keeps_them(settings: RouterSettings, default: str) -> None:
    """A provider that is added beside it changes nothing of what it serves."""
    with_it = resolver(settings, default=default)
    assert asked(with_it.resolve(request("openai/gpt-5"), KEY)) == [("router", "openai/gpt-5")]
    limited = guest(models=("gpt-5",))
    assert refusal(with_it.resolve(request("openai/gpt-5"), limited)).cause == "model_denied"


def test_it_keeps_them_also_while_it_can_serve_nothing() -> None:
    found = resolver(default="router", accounts=[one for one in ACCOUNTS if one.provider != "router"])
    assert "the default provider router has no account" in refusal(found.resolve(request("openai/x"), KEY)).message


@pytest.mark.parametrize(
    ("rights", "expected"),
    [
        ({"models": ("gpt-*",)}, ("openai", "gpt-5")),
        ({"models": ("openai/gpt-5",)}, ("openai", "gpt-5")),
        ({"models": ("gpt-5",), "providers": ("openai",)}, ("openai", "gpt-5")),
        ({"accounts": ("o",)}, ("openai", "gpt-5")),
        ({"pin": "o"}, ("openai", "gpt-5")),
        ({"models": ("claude-*",)}, "model_denied"),
        ({"models": ("claude-*",), "providers": ("openai",)}, "model_denied"),
        ({"models": ("openai",)}, "model_denied"),
        ({"providers": ("native",)}, "no_account"),
        ({"accounts": ("n",)}, "no_account"),
    ],
)
def test_a_keys_rights_must_allow_both_the_provider_and_the_model(rights: dict[str, object], expected: object) -> None:
    found = resolver().resolve(request("openai/gpt-5"), guest(**rights))
    if isinstance(expected, str):
        no_route = refusal(found)
        assert no_route.cause == expected
        assert "openai is" not in no_route.message
    else:
        assert asked(found) == [expected]


@given(st.text(max_size=30), st.sampled_from(sorted(PROVIDERS)), st.sampled_from([*sorted(PROVIDERS), None]))
def test_no_spelling_gets_a_key_to_a_provider_or_a_model_that_it_may_not_use(
    name: str, provider: str, default: str | None
) -> None:
    key = guest(models=("allowed",), providers=("native",))
    found = resolver(default=default).resolve_model(f"{provider}/{name}", key)
    if not hasattr(found, "cause"):
        assert {target for target, _ in asked(found)} == {"native"}


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("bare/x", "add one with: tokenferry account add NAME --provider bare"),
        ("off/x", "provider off is not enabled"),
    ],
)
def test_a_provider_that_cannot_serve_is_named_and_no_other_serves_in_its_place(model: str, says: str) -> None:
    assert says in refusal(resolver().resolve(request(model), KEY)).message


def test_it_is_off_where_only_models_are_served_or_the_operator_says_so() -> None:
    models = [ModelSettings("m", (ModelMapping("native", "claude"),))]
    rejecting = resolver(RouterSettings(unmapped="reject"), models)
    assert refusal(rejecting.resolve(request("openai/gpt-5"), KEY)).cause == "unmapped_model"
    switched_off = resolver(RouterSettings(provider_prefix=False))
    assert asked(switched_off.resolve(request("openai/gpt-5"), KEY)) == [("native", "openai/gpt-5")]


def test_a_rule_may_name_a_model_so() -> None:
    rules = (RuleSettings("all", "openai/gpt-5", requested="claude"),)
    found = plan(resolver(RouterSettings(rules=rules)).resolve(request("claude-x"), KEY))
    assert asked(found) == [("openai", "gpt-5")]
    assert found.rule.startswith("all: ")


def test_a_clients_own_credential_still_goes_to_the_vendor_that_takes_it() -> None:
    found = plan(resolver().resolve(request("openai/gpt-5", own=OWN_CREDENTIAL), KEY))
    assert [(one.group.provider, one.model) for one in found.targets] == [("router", "openai/gpt-5")]
    found = plan(resolver().resolve(request("router/gpt-5", own=OWN_CREDENTIAL), KEY))
    assert [(one.group.provider, one.model) for one in found.targets] == [("router", "gpt-5")]


def test_without_a_default_provider_the_refusal_says_how_to_ask() -> None:
    only = [Account("o", "openai", "api-key")]
    found = resolver(default=None, accounts=only)
    assert "ask for openai/MODEL" in refusal(found.resolve(request("gpt-5"), KEY)).message
    assert asked(found.resolve(request("openai/gpt-5"), KEY)) == [("openai", "gpt-5")]
    named = resolver(RouterSettings(providers=("openai",)), default=None, accounts=only)
    assert asked(named.resolve(request("gpt-5"), KEY)) == [("openai", "gpt-5")], "a list of default providers names it"
