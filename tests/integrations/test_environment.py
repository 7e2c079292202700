import json
import shlex
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.credentials import ApiKey, Credential, OAuthToken, SetupToken
from tokenferry.integrations import assignments, sample_request, variables_of, variables_of_gateway
from tokenferry.providers import Provider, builtin_providers
from tokenferry.secret import Secret

KEY = ApiKey(Secret("fake-key"))
TOKEN = OAuthToken(Secret("fake-token"))
SETUP = SetupToken(Secret("sk-ant-oat01-" + "s" * 90))


@pytest.mark.parametrize(
    ("provider", "credential", "expected"),
    [
        ("anthropic", KEY, "ANTHROPIC_API_KEY"),
        ("anthropic", SETUP, "ANTHROPIC_AUTH_TOKEN"),
        ("claude-max", TOKEN, "ANTHROPIC_AUTH_TOKEN"),
        ("console", TOKEN, "ANTHROPIC_AUTH_TOKEN"),
    ],
)
def test_a_key_and_a_token_of_the_vendor_have_a_variable_each(
    provider: str, credential: Credential, expected: str
) -> None:
    assert variables_of(builtin_providers()[provider], credential) == ((expected, credential.secret),)


def test_what_is_not_for_the_vendors_host_comes_with_its_address() -> None:
    url = "https://llm.invalid"
    provider = Provider("mine", "anthropic", url)
    assert variables_of(provider, KEY) == (("ANTHROPIC_API_KEY", KEY.secret), ("ANTHROPIC_BASE_URL", url))
    bearer = Provider("mine", "anthropic", url, key_header="authorization")
    assert variables_of(bearer, KEY) == (("ANTHROPIC_AUTH_TOKEN", KEY.secret), ("ANTHROPIC_BASE_URL", url))


@given(st.text(min_size=1))
def test_a_provider_of_any_name_has_a_variable_that_a_shell_takes(name: str) -> None:
    ((variable, _),) = variables_of(Provider(name, name + "!", "https://llm.invalid"), KEY)
    assert variable.endswith("_API_KEY")
    assert set(variable) <= set(string.ascii_uppercase + string.digits + "_")
    assert not variable[0].isdigit()


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_every_secret_comes_back_from_its_line(value: str) -> None:
    (line,) = assignments((("NAME", Secret(value)),))
    assert shlex.split(line) == [f"NAME={value}"]


def test_the_gateways_key_comes_with_the_gateways_address() -> None:
    lines = assignments(variables_of_gateway(Secret("tfk_1"), "http://127.0.0.1:1"))
    assert lines == ["ANTHROPIC_AUTH_TOKEN=tfk_1", "ANTHROPIC_BASE_URL=http://127.0.0.1:1"]


@given(st.text())
def test_the_sample_request_is_one_command_whose_body_names_the_model(model: str) -> None:
    program, url, *options = shlex.split(sample_request(model))
    assert (program, url) == ("curl", "$ANTHROPIC_BASE_URL/v1/messages")
    assert json.loads(options[-1])["model"] == model
