import pytest

from tokenferry.credentials import ApiKey, Credential, OAuthToken, SetupToken
from tokenferry.providers import KIND_OF_AUTH_TYPE, Provider, builtin_providers
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
    ],
    ids=lambda value: value.name if isinstance(value, Provider) else str(value)[:12],
)
def test_who_is_billed(provider: Provider, credential: Credential, bills: bool) -> None:  # noqa: FBT001  # a case
    assert provider.bills_subscription(credential) is bills


def test_each_auth_type_has_its_kind() -> None:
    assert KIND_OF_AUTH_TYPE == {"api_key": "api-key", "setup_token": "setup-token", "oauth": "oauth"}
    assert Provider("a", "a", "https://a.example", auth_type="setup_token").kind == "setup-token"


def test_a_base_url_that_is_none_bills_nobody() -> None:
    assert not Provider("a", "a", "https://[").bills_subscription(LOGIN)
