import pytest

from tokenferry.accounts import CONFIGURATION, ENVIRONMENT, accounts_from_environment, accounts_from_keys
from tokenferry.credentials import ApiKey, Credential, OAuthToken
from tokenferry.secret import Secret

KEY = "sk-ant-api03-" + "x" * 80
TOKEN = "sk-ant-oat01-" + "x" * 80


def found(**environ: str) -> dict[str, tuple[str, Credential]]:
    documents = accounts_from_environment(environ)
    for name, document in documents.items():
        account = document.account
        assert (account.name, account.kind) == (name, document.credential.kind)
        assert (account.owner, account.store, account.priority) == ("external", ENVIRONMENT, 1000)
    return {name: (document.account.provider, document.credential) for name, document in documents.items()}


@pytest.mark.parametrize("variable", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_each_variable_is_an_account_of_its_kind(variable: str) -> None:
    assert found(**{variable: f" {KEY}\n"}) == {variable: ("anthropic", ApiKey(Secret(KEY)))}
    token = OAuthToken(Secret(TOKEN), source=ENVIRONMENT)
    assert found(**{variable: TOKEN}) == {variable: ("claude-max", token)}


def test_both_variables_are_two_accounts_the_key_first() -> None:
    assert list(found(ANTHROPIC_AUTH_TOKEN=TOKEN, ANTHROPIC_API_KEY=KEY)) == [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
    ]


def test_a_key_of_no_known_form_is_still_a_key() -> None:
    """Keys change their look; a token that isn't the vendor's is somebody else's."""
    assert found(ANTHROPIC_API_KEY="some-key") == {"ANTHROPIC_API_KEY": ("anthropic", ApiKey(Secret("some-key")))}
    assert not found(ANTHROPIC_AUTH_TOKEN="some-token")


@pytest.mark.parametrize(
    "value", ["", "  ", "tfk_123", "tfa_123", f"{KEY} {KEY}", f"{KEY}\nx", "\u201ckey\u201d", "\x7f"]
)
def test_no_account_comes_of_nothing_our_own_keys_or_what_no_header_takes(value: str) -> None:
    assert not found(ANTHROPIC_API_KEY=value, ANTHROPIC_AUTH_TOKEN=value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:13456",
        "https://llm.example",
        "https://api.anthropic.com.llm.example",
        "https://api.anthropic.com@llm.example",
        "api.anthropic.com",
        "https://[",
        "nonsense",
    ],
)
def test_variables_meant_for_another_host_are_left_alone(url: str) -> None:
    assert not found(ANTHROPIC_BASE_URL=url, ANTHROPIC_API_KEY=KEY, ANTHROPIC_AUTH_TOKEN=TOKEN)


@pytest.mark.parametrize("url", ["", "https://api.anthropic.com", "https://API.anthropic.com/"])
def test_the_vendor_s_own_host_changes_nothing(url: str) -> None:
    assert found(ANTHROPIC_BASE_URL=url, ANTHROPIC_API_KEY=KEY)


def test_keys_of_the_configuration_are_accounts_by_the_provider_s_name() -> None:
    key = ApiKey(Secret("sk-mine"))
    documents = accounts_from_keys({"mine": key})
    account = documents["mine"].account
    assert documents["mine"].credential == key
    assert (account.name, account.provider, account.kind) == ("mine", "mine", "api-key")
    assert (account.owner, account.store) == ("external", CONFIGURATION)
