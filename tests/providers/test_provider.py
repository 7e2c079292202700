import pytest

from tokenferry.credentials import ApiKey, Credential, ExchangedToken, OAuthToken, SetupToken
from tokenferry.oauth import OAuthEndpoints, TokenExchange
from tokenferry.providers import (
    KIND_OF_AUTH_TYPE,
    Provider,
    Reading,
    Table,
    builtin_providers,
    declare,
    logs_in_at_subscription,
    presets,
)
from tokenferry.secret import Secret

API_KEY = ApiKey(Secret("sk-ant-api03-" + "x" * 80))
OAT = Secret("sk-ant-oat01-" + "x" * 80)
SETUP = SetupToken(OAT)
LOGIN = OAuthToken(OAT)
MAX_LOGIN = OAuthToken(OAT, subscription_type="max")
OTHER = OAuthToken(Secret("eyJhbGciOi"))
OAT_AS_KEY = ApiKey(OAT)

ANTHROPIC = builtin_providers()["anthropic"]
CONSOLE = builtin_providers()["console"]
MAX = builtin_providers()["claude-max"]
SANDBOX = builtin_providers()["sandbox"]
TEAM = Provider("team", "console", "https://eu.api.anthropic.com.")
MINE = Provider("mine", "mine", "https://api.anthropic.com")
ELSEWHERE = Provider("elsewhere", "elsewhere", "https://api.anthropic.com.llm.example")
DECLARED = Provider("declared", "declared", "https://llm.example", subscription=True)
SUBJECT = Secret("gho_long-lived")
EXCHANGED = ExchangedToken(OAT, subject=SUBJECT)
LED_THERE = ExchangedToken(OAT, subject=SUBJECT, endpoint="https://api.anthropic.com/v1")
LED_AWAY = ExchangedToken(OAT, subject=SUBJECT, endpoint="https://llm.example")


@pytest.mark.parametrize(
    ("provider", "credential", "bills"),
    [
        (ANTHROPIC, API_KEY, False),
        (ANTHROPIC, SETUP, True),
        (ANTHROPIC, LOGIN, True),
        (ANTHROPIC, OAT_AS_KEY, True),
        (ANTHROPIC, OTHER, False),
        (CONSOLE, API_KEY, False),
        (CONSOLE, LOGIN, False),
        (CONSOLE, MAX_LOGIN, True),
        (CONSOLE, SETUP, True),
        (CONSOLE, OAT_AS_KEY, True),
        (TEAM, LOGIN, False),
        (TEAM, MAX_LOGIN, True),
        (TEAM, SETUP, True),
        (MAX, LOGIN, True),
        (MAX, OTHER, True),
        (MAX, SETUP, True),
        (MINE, LOGIN, True),
        (MINE, SETUP, True),
        (MINE, API_KEY, False),
        (SANDBOX, LOGIN, False),
        (SANDBOX, SETUP, False),
        (ELSEWHERE, SETUP, False),
        (ELSEWHERE, MAX_LOGIN, False),
        (DECLARED, OTHER, True),
        (DECLARED, API_KEY, True),
        (MINE, EXCHANGED, True),
        (TEAM, EXCHANGED, True),
        (ELSEWHERE, EXCHANGED, False),
        (ELSEWHERE, LED_THERE, True),
        (MINE, LED_AWAY, False),
    ],
    ids=lambda value: value.name if isinstance(value, Provider) else str(value)[:12],
)
def test_who_is_billed(provider: Provider, credential: Credential, bills: bool) -> None:  # noqa: FBT001  # a case
    assert provider.bills_subscription(credential) is bills


def test_an_exchange_at_the_subscriptions_login_is_such_a_login() -> None:
    for url, is_such in (("https://claude.ai/token", True), ("https://llm.example/token", False), (None, False)):
        endpoints = OAuthEndpoints(token_exchange=TokenExchange(url))
        assert logs_in_at_subscription("https://llm.example", endpoints) is is_such
    assert MINE.may_bill_subscription("exchanged")
    assert not ELSEWHERE.may_bill_subscription("exchanged")


def test_each_auth_type_has_its_kind() -> None:
    assert KIND_OF_AUTH_TYPE == {"api_key": "api-key", "setup_token": "setup-token", "oauth": "oauth"}
    assert Provider("a", "a", "https://a.example", auth_type="setup_token").kind == "setup-token"


def test_an_invalid_base_url_bills_no_subscription() -> None:
    assert not Provider("a", "a", "https://[").bills_subscription(LOGIN)


@pytest.mark.parametrize(
    "key",
    [
        "hello",
        "EMPTY",
        "sk-proj-abcdefghijklmnop",
        "sk-ant-admin01-abcdefgh",
        "sk-ant-api03-",
        OAT.reveal(),
        "sk-ant-api03-a.b",
    ],
)
@pytest.mark.parametrize("name", ["anthropic", "claude-max", "console"])
def test_a_key_of_another_shape_is_refused_at_a_host_whose_keys_are_known(key: str, name: str) -> None:
    fault = builtin_providers()[name].key_fault(ApiKey(Secret(key)))
    assert fault is not None
    assert "api.anthropic.com begins with sk-ant-api" in fault
    assert key not in fault or key == "sk-ant-api03-"


def test_the_host_decides_whatever_the_provider_calls_itself() -> None:
    reading = Reading()
    tables = Table(
        {
            "providers": [
                {"name": "mine", "base_url": "https://api.anthropic.com"},
                {"name": "anthropic", "base_url": "http://127.0.0.1:1"},
                {"name": "openrouter"},
                {"name": "elsewhere", "provider_type": "openrouter", "base_url": "https://llm.example"},
            ]
        },
        "",
        reading,
    ).tables("providers")
    mine, local, router, elsewhere = (declare(table, builtin_providers()) for table in tables)
    assert not reading.faults
    assert mine is not None
    assert local is not None
    assert router is not None
    assert elsewhere is not None
    assert mine.key_fault(ApiKey(Secret("hello")))
    assert router.key_fault(API_KEY)
    assert not router.key_fault(ApiKey(Secret("sk-or-v1-" + "0" * 64)))
    assert not local.key_fault(ApiKey(Secret("hello")))
    assert not elsewhere.key_fault(ApiKey(Secret("hello")))


@pytest.mark.parametrize(
    ("provider", "key", "doubt"),
    [
        (ELSEWHERE, "hello", "only a few characters"),
        (ELSEWHERE, "sk-proj-abcdefghijklmnop", "a key of OpenAI"),
        (ELSEWHERE, "sk-ant-admin01-abcdefghijklmnop", "an Admin API key"),
        (ELSEWHERE, "0123456789abcdef", None),
        (SANDBOX, "ollama", None),
        (SANDBOX, "EMPTY", None),
        (ANTHROPIC, API_KEY.secret.reveal(), None),
    ],
)
def test_elsewhere_an_odd_key_is_doubted_and_on_this_machine_none(
    provider: Provider, key: str, doubt: str | None
) -> None:
    credential = ApiKey(Secret(key))
    assert provider.key_fault(credential) is None
    told = provider.key_doubt(credential)
    assert (told is None) if doubt is None else (told is not None and doubt in told)


@pytest.mark.parametrize("credential", [SETUP, LOGIN, OTHER])
def test_tokens_are_no_keys_and_have_no_shape_here(credential: Credential) -> None:
    assert MAX.key_fault(credential) is None
    assert MAX.key_doubt(credential) is ANTHROPIC.key_doubt(credential) is SANDBOX.key_doubt(credential) is None


def test_a_setup_token_is_doubted_at_every_other_vendor() -> None:
    for preset in presets().values():
        doubt = preset.provider.key_doubt(SETUP)
        assert preset.provider.is_local or doubt == "the key looks like a setup token of Anthropic", preset.name
    assert ELSEWHERE.key_doubt(LOGIN) is None


def test_what_shows_that_a_credential_works_is_declared_for_its_kind() -> None:
    """A setup token has no such route, and what isn't declared isn't guessed."""
    host = "https://api.anthropic.com"
    assert ANTHROPIC.check_endpoint(API_KEY) == f"{host}/v1/models"
    assert MAX.check_endpoint(LOGIN) == CONSOLE.check_endpoint(LOGIN) == f"{host}/api/oauth/profile"
    assert MAX.check_endpoint(SETUP) is None
    assert ELSEWHERE.check_endpoint(API_KEY) is None
    assert ELSEWHERE.check_endpoint(LOGIN) is None
