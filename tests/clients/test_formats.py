"""The environment of a program that is led to a gateway: what is set, what is taken out, what stays."""

import pytest

from tokenferry.clients import CLIENT_FORMATS, ApiFormat, client_environment

URL = "http://127.0.0.1:1"
GIVEN = {name: "given" for one in CLIENT_FORMATS.values() for name in (*one.shadows, one.base_url, one.key)} | {
    "ANTHROPIC_VERTEX_PROJECT_ID": "given",
    "AZURE_OPENAI_ENDPOINT": "given",
    "PATH": "given",
}


@pytest.mark.parametrize("api_format", CLIENT_FORMATS)
def test_a_format_that_is_served_is_led_to_the_gateway_and_nowhere_else(api_format: ApiFormat) -> None:
    found = client_environment(GIVEN, URL, "tfk_x", [api_format])
    known = CLIENT_FORMATS[api_format]
    assert (found[known.base_url], found[known.key]) == (f"{URL}{known.path}", "tfk_x")
    assert not (known.shadows - {known.base_url, known.key}) & found.keys()
    assert not [name for name in found if known.shadow_prefixes and name.startswith(known.shadow_prefixes)]
    assert found["PATH"] == "given"


def test_of_what_is_not_served_everything_stays() -> None:
    found = client_environment(GIVEN, URL, "tfk_x", [one for one in CLIENT_FORMATS if one != "gemini"])
    known = CLIENT_FORMATS["gemini"]
    assert {found[name] for name in (*known.shadows, known.base_url, known.key)} == {"given"}
    # The addresses that LiteLLM and LangChain put before the usual one.
    gone = {"ANTHROPIC_API_BASE", "ANTHROPIC_API_URL", "ANTHROPIC_VERTEX_PROJECT_ID", "AZURE_OPENAI_ENDPOINT"}
    assert not gone & found.keys()


def test_no_variable_that_a_format_sets_is_among_those_that_lead_past_the_gateway() -> None:
    for known in CLIENT_FORMATS.values():
        assert not known.shadows & {known.base_url, known.key}
