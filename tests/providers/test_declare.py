from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tokenferry.credentials import ApiKey
from tokenferry.oauth import OAuthEndpoints
from tokenferry.providers import Provider, Reading, Table, builtin_providers, declare, presets
from tokenferry.providers._presets import _document as document
from tokenferry.providers._presets import other_formats
from tokenferry.secret import Secret
from tokenferry.wire import Quirks

FORCED = "can't be switched off here: these logins are billed to a Claude subscription"
URL = "https://llm.example"


def declared(data: dict[str, Any]) -> tuple[Provider | None, list[str]]:
    reading = Reading()
    table = Table(data, "providers[1]", reading)
    provider = declare(table, builtin_providers())
    table.done()
    return provider, [fault.text for fault in reading.faults]


def good(**data: Any) -> Provider:
    provider, problems = declared(data)
    assert not problems
    assert provider is not None
    return provider


def faults(**data: Any) -> list[str]:
    problems = declared(data)[1]
    assert problems
    return problems


# -- the built-in ones


def test_these_providers_need_no_declaration() -> None:
    kinds = {name: (one.kind, one.subscription) for name, one in builtin_providers().items()}
    assert kinds == {
        "anthropic": ("api-key", False),
        "claude-max": ("oauth", True),
        "console": ("oauth", False),
        "sandbox": ("oauth", False),
    }


@pytest.mark.parametrize("name", ["claude-max", "console", "sandbox"])
def test_a_built_in_login_is_declared_whole(name: str) -> None:
    endpoints = builtin_providers()[name].endpoints
    assert endpoints.authorization_endpoint
    assert endpoints.token_endpoint
    assert endpoints.revocation_endpoint
    assert endpoints.client_id
    assert endpoints.redirect_uri
    assert endpoints.loopback_redirect == "http://localhost:{port}/callback"
    assert endpoints.token_body == "json"
    assert endpoints.state_in_exchange
    assert endpoints.reuse_grace == 0


def test_the_built_in_ones_are_read_once_and_cannot_be_changed() -> None:
    assert builtin_providers() is builtin_providers()
    with pytest.raises(TypeError):
        builtin_providers()["mine"] = builtin_providers()["console"]  # type: ignore[index]  # that it can't is the point


# -- amending and deriving


def test_a_table_of_the_same_name_changes_a_built_in_one() -> None:
    before = builtin_providers()["console"]
    after = good(name="console", strategy="round-robin", enabled=False, oauth={"reuse_grace": 5})
    assert after.base_url == before.base_url
    assert after.auth_type == "oauth"
    assert after.provider_type == "console"
    assert (after.strategy, after.enabled) == ("round-robin", False)
    assert after.oauth.reuse_grace == 5
    assert after.oauth.token_endpoint == before.oauth.token_endpoint
    assert before.oauth.reuse_grace == 0


def test_another_name_derives_from_its_provider_type() -> None:
    derived = good(name="team", provider_type="console", accounts=["a", "b"])
    assert derived.endpoints == builtin_providers()["console"].endpoints
    assert (derived.name, derived.provider_type, derived.kind) == ("team", "console", "oauth")
    assert derived.accounts == ("a", "b")


def test_a_provider_of_ones_own_starts_from_nothing() -> None:
    assert good(name="mine", base_url=URL + "/") == Provider("mine", "mine", URL)
    assert good(name="mine", base_url=URL, provider_type="mine").provider_type == "mine"


def test_an_unknown_provider_type_is_reported_with_the_known_ones() -> None:
    assert faults(name="mine", base_url=URL, provider_type="claud") == [
        f"providers.mine.provider_type must be one of {', '.join((*builtin_providers(), *presets()))}; "
        "leave it out for a provider of your own"
    ]


def test_the_type_of_a_built_in_provider_cannot_be_changed() -> None:
    assert faults(name="claude-max", provider_type="console") == [
        "providers.claude-max.provider_type can't be changed for claude-max; "
        "give a provider of another type another name"
    ]
    assert good(name="claude-max", provider_type="claude-max").subscription


def test_a_name_and_a_url_are_needed() -> None:
    assert faults(base_url=URL) == ["providers[1].name is missing"]
    assert faults(name="mine") == ["providers.mine.base_url is missing"]
    assert faults() == ["providers[1].name is missing", "providers[1].base_url is missing"]


def test_a_faulty_name_or_url_is_reported_once() -> None:
    assert faults(name=5, base_url=URL) == ["providers[1].name must be a string that is not empty"]
    assert faults(name="", base_url=URL) == ["providers[1].name must be a string that is not empty"]
    assert faults(name="mine", base_url="") == ["providers.mine.base_url must be a string that is not empty"]
    assert faults(name="mine", base_url="http://llm.example") == [
        "providers.mine.base_url must begin with https://; plain http is for this machine alone"
    ]


def test_endpoints_with_base_url_in_them_follow_it() -> None:
    moved = good(name="sandbox", base_url="http://127.0.0.1:999/")
    assert moved.endpoints.token_endpoint == "http://127.0.0.1:999/v1/oauth/token"
    assert moved.endpoints.authorization_endpoint == "http://127.0.0.1:999/oauth/authorize"
    assert moved.endpoints.revocation_endpoint == "http://127.0.0.1:999/v1/oauth/token/revoke"
    assert moved.endpoints.redirect_uri == "http://127.0.0.1:999/oauth/code/callback"
    assert moved.oauth.token_endpoint == "{base_url}/v1/oauth/token"


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/v1/messages", "/v1/messages//", "//v1"])
@pytest.mark.parametrize("path", ["", "/anthropic", "/v1/proxy", "/v10"])
def test_the_paths_that_clients_add_themselves_mean_nothing_at_the_end_of_a_base_url(path: str, end: str) -> None:
    provider = good(name="mine", base_url=URL + path + end, oauth={"token_endpoint": "{base_url}/token"})
    assert provider.base_url == URL + path
    assert provider.endpoints.token_endpoint == URL + path + "/token"


def test_another_format_keeps_the_path_of_its_base_url() -> None:
    assert good(name="mine", base_url=URL + "/v1/", wire_format="openai").base_url == URL + "/v1"


def test_the_older_spelling_names_one_account() -> None:
    assert good(name="console", oauth_provider="work").accounts == ("work",)
    assert faults(name="console", oauth_provider="work", accounts=["home"]) == [
        "providers.console.oauth_provider and accounts say the same thing; keep one of them"
    ]


def test_accounts_are_all_unless_named_and_may_be_none() -> None:
    assert good(name="console").accounts is None
    assert good(name="console", accounts=[]).accounts == ()


@pytest.mark.parametrize("key", ["authorization_endpoint", "token_endpoint", "revocation_endpoint", "redirect_uri"])
@pytest.mark.parametrize("url", ["http://llm.example/x", "https://me@llm.example", "https://169.254.169.254/", "/x"])
def test_every_endpoint_is_https_or_this_machine(key: str, url: str) -> None:
    (fault,) = faults(name="mine", base_url=URL, oauth={key: url})
    assert fault.startswith(f"providers.mine.oauth.{key} must")


def test_an_endpoint_that_is_no_url_at_all_is_a_problem_too() -> None:
    assert faults(name="mine", base_url=URL, oauth={"authorization_endpoint": "https://["}) == [
        "providers.mine.oauth.authorization_endpoint is not a URL"
    ]


def test_every_fault_of_a_declaration_is_reported() -> None:
    assert faults(
        name="mine",
        base_url=URL,
        auth_type="password",
        enabled="yes",
        accounts="a",
        strategy="random",
        typ="x",
        oauth={"token_body": "xml", "reuse_grace": -1, "scope": []},
    ) == [
        "providers.mine.oauth.token_body must be one of json, form",
        'providers.mine.oauth.reuse_grace must be a duration from 0s to 1d, as in "30s" or "5m"',
        "providers.mine.oauth.scope is not a known key; did you mean scopes?",
        "providers.mine.auth_type must be one of api_key, setup_token, oauth",
        "providers.mine.accounts must be a list of strings",
        "providers.mine.enabled must be true or false",
        "providers.mine.strategy must be one of priority, round-robin, least-utilised, drain-soonest-reset",
        "providers.mine.typ is not a known key; known here: accounts, api_version, auth_type, base_url, "
        "burst, check_url, command, command_ttl, enabled, env_var, google_credentials, headers, key_header, location, "
        "max_concurrency, max_output_tokens, models, name, oauth, passthrough, project_id, provider_type, region, "
        "requests_per_minute, resource, slash_names, strategy, subscription, token_exchange, tokens_per_minute, "
        "usage_url, wire_format",
    ]


# -- a subscription can't be hidden


@pytest.mark.parametrize(
    "data",
    [
        {"name": "claude-max"},
        {"name": "mine", "provider_type": "claude-max"},
        {"name": "mine", "provider_type": "claude-max", "base_url": URL},
        {"name": "mine", "provider_type": "claude-max", "base_url": URL, "oauth": {"authorization_endpoint": URL}},
        {"name": "claude-max", "base_url": URL, "oauth": {"authorization_endpoint": URL}},
        {"name": "mine", "base_url": URL, "oauth": {"authorization_endpoint": "https://claude.ai/oauth/authorize"}},
        {
            "name": "mine",
            "base_url": URL,
            "oauth": {"authorization_endpoint": "https://claude.com/cai/oauth/authorize"},
        },
        {"name": "mine", "base_url": URL, "oauth": {"authorization_endpoint": "https://CLAUDE.AI./oauth"}},
        {"name": "mine", "base_url": URL, "oauth": {"authorization_endpoint": "https://www.claude.ai:443/oauth"}},
        {"name": "mine", "base_url": "https://claude.ai"},
        {"name": "mine", "base_url": "https://api.claude.com/x"},
        {"name": "mine", "base_url": "https://claude.ai", "oauth": {"authorization_endpoint": "{base_url}/oauth"}},
        {"name": "mine", "base_url": "https://cl", "oauth": {"authorization_endpoint": "{base_url}aude.ai/oauth"}},
        {"name": "console", "oauth": {"authorization_endpoint": "https://claude.ai/oauth/authorize"}},
        {"name": "sandbox", "base_url": "https://claude.com"},
    ],
)
def test_a_claude_login_is_a_subscription_whatever_it_is_called(data: dict[str, Any]) -> None:
    assert good(**data).subscription
    provider, problems = declared({**data, "subscription": False})
    assert problems == [f"providers.{data['name']}.subscription {FORCED}"]
    assert provider is None or provider.subscription


@pytest.mark.parametrize(
    "data",
    [
        {"name": "console"},
        {
            "name": "mine",
            "base_url": URL,
            "oauth": {"authorization_endpoint": "https://platform.claude.com/oauth/authorize"},
        },
        {"name": "mine", "base_url": "https://platform.claude.com"},
        {"name": "mine", "base_url": "https://notclaude.ai"},
        {"name": "mine", "base_url": "https://claude.ai.llm.example"},
    ],
)
def test_the_console_and_other_hosts_are_none_unless_declared(data: dict[str, Any]) -> None:
    assert not good(**data).subscription
    assert good(**data, subscription=True).subscription


def test_endpoints_show_nothing_to_fill_in_where_there_is_none() -> None:
    endpoints = OAuthEndpoints(token_endpoint="https://a.example/token")
    assert endpoints.at("https://b.example") == endpoints


def test_a_provider_can_say_in_which_variable_programs_look_for_its_key() -> None:
    assert good(name="mine", base_url=URL, env_var="OPENAI_API_KEY").env_var == "OPENAI_API_KEY"
    assert good(name="mine", base_url=URL).env_var is None
    for name in ("", "a b", "A=B", "1A", "$A"):
        assert any("env_var" in fault for fault in faults(name="mine", base_url=URL, env_var=name))


# -- what a login needs


def test_an_issuer_alone_is_a_standard_provider() -> None:
    oauth = good(name="idp", base_url=URL, oauth={"issuer": "https://idp.example/", "client_id": "me"}).oauth
    assert (oauth.issuer, oauth.token_endpoint, oauth.token_body) == ("https://idp.example/", None, "form")
    assert good(name="idp", base_url=URL, oauth={"issuer": URL, "token_body": "json"}).oauth.token_body == "json"
    assert good(name="console", oauth={"issuer": URL}).oauth.token_body == "json"


def test_parameters_and_the_clients_way_of_saying_who_it_is_are_declared() -> None:
    given = {"authorize_parameters": {"prompt": "consent", "audience": "x"}, "client_auth": "basic"}
    oauth = good(name="idp", base_url=URL, oauth=given).oauth
    assert oauth.authorize_parameters == (("prompt", "consent"), ("audience", "x"))
    assert oauth.client_auth == "basic"


@pytest.mark.parametrize(
    ("oauth", "fault"),
    [
        ({"issuer": "http://idp.example"}, "issuer must begin with https://"),
        ({"authorize_parameters": {"state": "x", "scope": "y"}}, "authorize_parameters must not hold scope, state"),
        ({"authorize_parameters": {"prompt": 1}}, "authorize_parameters must be a table of strings"),
        ({"authorize_parameters": "prompt"}, "authorize_parameters must be a table of strings"),
        ({"client_auth": "jwt"}, "client_auth must be one of body, basic"),
        ({"loopback_redirect": "http://localhost/callback"}, "loopback_redirect must be like"),
        ({"loopback_redirect": "http://localhost:{port}"}, "loopback_redirect must be like"),
        ({"loopback_redirect": "https://localhost:{port}/callback"}, "loopback_redirect must be like"),
        ({"loopback_redirect": "http://llm.example:{port}/callback"}, "loopback_redirect must be like"),
        ({"loopback_redirect": "http://localhost:{port}/callback?x=y"}, "loopback_redirect must be like"),
    ],
)
def test_a_login_that_could_not_be_is_refused(oauth: dict[str, Any], fault: str) -> None:
    (found,) = faults(name="idp", base_url=URL, oauth=oauth)
    assert found.startswith(f"providers.idp.oauth.{fault}")


@pytest.mark.parametrize("template", ["http://127.0.0.1:{port}/back", "http://localhost:8085/callback"])
def test_the_address_on_this_machine_may_have_a_fixed_port(template: str) -> None:
    oauth = good(name="idp", base_url=URL, oauth={"loopback_redirect": template}).oauth
    assert oauth.loopback_redirect == template


def test_an_issuer_of_subscriptions_is_one_whatever_else_is_declared() -> None:
    assert good(name="mine", base_url=URL, oauth={"issuer": "https://claude.ai"}).subscription
    assert good(
        name="mine", base_url=URL, oauth={"client_id": "9d1c250a-e61b-44d9-88ed-5944d1962f5e"}
    ).uses_vendors_client


# -- an enterprise's own host, and older spellings


def test_an_enterprises_own_host_has_the_endpoints_of_a_type_under_their_paths() -> None:
    oauth = {"enterprise_url": "https://sso.corp.example/", "token_endpoint": "https://tokens.corp.example/t"}
    provider = good(name="corp", provider_type="console", base_url=URL, oauth=oauth)
    endpoints = provider.endpoints
    assert endpoints.authorization_endpoint == "https://sso.corp.example/oauth/authorize"
    assert endpoints.token_endpoint == "https://tokens.corp.example/t"
    assert endpoints.revocation_endpoint == "https://sso.corp.example/v1/oauth/token/revoke"
    assert endpoints.redirect_uri == "https://sso.corp.example/oauth/code/callback"
    assert endpoints.loopback_redirect == "http://localhost:{port}/callback"
    assert endpoints.api_key_url == f"{URL}/api/oauth/claude_cli/create_api_key"
    assert provider.base_url == URL
    built_in = good(name="box", provider_type="sandbox", base_url=URL, oauth={"enterprise_url": "https://e.example/x"})
    assert built_in.endpoints.device_authorization_endpoint == "https://e.example/x/oauth/device_authorization"


@pytest.mark.parametrize("url", ["http://sso.corp.example", "https://u@sso.corp.example", "sso.corp.example", 7])
def test_an_enterprises_host_is_held_to_what_any_endpoint_is(url: object) -> None:
    found = faults(name="corp", provider_type="console", base_url=URL, oauth={"enterprise_url": url})
    assert found[0].startswith("providers.corp.oauth.enterprise_url must")


def test_an_enterprises_host_does_not_make_a_subscription_anything_else() -> None:
    assert good(
        name="corp", provider_type="claude-max", oauth={"enterprise_url": "https://sso.corp.example"}
    ).subscription
    assert good(name="c", provider_type="console", oauth={"enterprise_url": "https://claude.ai"}).subscription


def test_an_enterprises_host_moves_what_a_declaration_names_and_the_exchange_below_it() -> None:
    oauth = {
        "device_authorization_endpoint": "https://github.com/login/device/code",
        "token_endpoint": "https://github.com/login/oauth/access_token",
        "enterprise_url": "https://corp.ghe.com",
    }
    given: dict[str, Any] = {"name": "copilot", "base_url": URL, "oauth": oauth}
    provider = good(**given, token_exchange=EXCHANGE | {"url": "https://api.github.com/copilot_internal/v2/token"})
    assert provider.oauth.device_authorization_endpoint == "https://corp.ghe.com/login/device/code"
    assert provider.oauth.token_endpoint == "https://corp.ghe.com/login/oauth/access_token"
    assert provider.oauth.token_exchange is not None
    assert provider.oauth.token_exchange.url == "https://api.corp.ghe.com/copilot_internal/v2/token"
    elsewhere = good(**given, token_exchange=EXCHANGE).oauth.token_exchange
    assert elsewhere is not None
    assert elsewhere.url == EXCHANGE["url"]


# -- a token that is exchanged, and headers

EXCHANGE: dict[str, Any] = {"url": "https://api.example.com/v2/token", "headers": {"Authorization": "token {token}"}}


def test_an_exchange_is_declared_by_its_request_and_the_places_of_its_answer() -> None:
    places = {"token_field": "token", "endpoint_field": "endpoints.api", "endpoint_hosts": ["example.com"]}
    provider = good(name="mine", base_url=URL, token_exchange=EXCHANGE | {"method": "GET"} | places)
    exchange = provider.oauth.token_exchange
    assert exchange is not None
    assert (exchange.headers, exchange.token_field) == ((("authorization", "token {token}"),), "token")
    assert (provider.kind, provider.login_kind) == ("api-key", "exchanged")
    assert good(name="mine", base_url=URL).login_kind == "oauth"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"url": None}, "url is missing"),
        ({"url": "http://api.example.com/t"}, "url must begin with https://"),
        ({"url": "https://169.254.169.254/t"}, "url must not be a link-local or metadata address"),
        ({"headers": {}}, "headers must hold {token} where the long-lived token goes, or parameters must"),
        ({"headers": {"authorization": "{token}\nx: y"}}, "headers must not hold 'authorization'"),
        ({"headers": {"a b": "{token}"}}, "headers must not hold 'a b'"),
        ({"headers": {"x": "{token}", "User-Agent": "o/1"}}, "headers must not hold User-Agent: tokenferry says that"),
        ({"method": "GET", "parameters": {"a": "b"}}, "parameters are of a POST"),
        ({"endpoint_field": "api"}, "endpoint_hosts and endpoint_field go together"),
        ({"endpoint_hosts": ["example.com"]}, "endpoint_hosts and endpoint_field go together"),
        ({"tokenfield": "t"}, "tokenfield is not a known key; did you mean token_field?"),
    ],
)
def test_an_exchange_that_can_not_work_is_refused(change: dict[str, Any], fault: str) -> None:
    given = {key: value for key, value in (EXCHANGE | change).items() if value is not None}
    (found,) = faults(name="mine", base_url=URL, token_exchange=given)
    assert found.startswith(f"providers.mine.token_exchange.{fault}")


def test_a_fixed_header_is_neither_a_credential_nor_a_disguise() -> None:
    assert good(name="mine", base_url=URL, headers={"X-Team": "search"}).headers == (("x-team", "search"),)
    for name in ("authorization", "x-api-key", "api-key", "user-agent", "cookie", "host"):
        (fault,) = faults(name="mine", base_url=URL, headers={name: "x"})
        assert fault.startswith(f"providers.mine.headers must not hold {name!r}")


def test_there_is_nothing_to_move_where_nothing_is_declared() -> None:
    (fault,) = faults(name="mine", base_url=URL, oauth={"enterprise_url": "https://sso.corp.example"})
    assert "enterprise_url moves the endpoints of a provider_type, and this one has none" in fault


def test_the_older_spelling_of_a_subscription_is_understood() -> None:
    named = good(name="claude-max", provider_type="anthropic", auth_type="oauth", oauth_provider="anthropic-max")
    assert named == replace(builtin_providers()["claude-max"], accounts=("anthropic-max",))
    other = good(name="mine", provider_type="anthropic", auth_type="oauth", oauth_provider="anthropic-max")
    assert (other.provider_type, other.subscription, other.accounts) == ("claude-max", True, ("anthropic-max",))
    assert other.endpoints == named.endpoints


# -- workloads and devices


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("device_authorization_endpoint", "http://idp.example/device", "must begin with https://"),
        ("federation_url", "https://169.254.169.254/token", "must not be a link-local"),
        ("api_key_url", "nonsense", "must begin with https://"),
        ("federation_parameters", {"assertion": "x"}, "must not hold assertion, which the exchange itself says"),
        ("authorize_parameters", {"state": "x"}, "must not hold state, which the login itself says"),
        ("federation_headers", {"authorization": "Bearer x"}, "must not hold 'authorization'"),
        ("federation_headers", {"x-a": "b\r\nc: d"}, "must not hold 'x-a'"),
        ("federation_headers", {"a b": "c"}, "must not hold 'a b'"),
    ],
)
def test_what_would_be_unsafe_to_send_is_a_fault(key: str, value: object, fault: str) -> None:
    found = faults(name="idp", base_url=URL, oauth={key: value})
    assert len(found) == 1
    assert found[0].startswith(f"providers.idp.oauth.{key} {fault}")


def test_a_workloads_exchange_is_declared_where_the_api_is() -> None:
    endpoints = builtin_providers()["anthropic"].endpoints
    assert endpoints.federation_url == "https://api.anthropic.com/v1/oauth/token"
    assert endpoints.token_endpoint is None
    assert endpoints.federation_headers == (("anthropic-beta", "oauth-2025-04-20,oidc-federation-2026-04-01"),)


def test_a_provider_of_chat_completions_takes_its_key_as_a_bearer_token_and_serves_mapped_models() -> None:
    provider = good(name="mine", base_url=URL + "/v1", wire_format="openai")
    assert (provider.key_header, provider.serves_mapped, provider.is_served) == ("authorization", True, False)
    assert good(name="mine", base_url=URL, wire_format="openai", key_header="x-api-key").key_header == "x-api-key"
    assert not good(name="mine", provider_type="deepinfra").serves_mapped


def test_a_provider_of_gemini_takes_its_key_in_googles_header_and_serves_mapped_models() -> None:
    provider = good(name="mine", base_url=URL, wire_format="gemini")
    assert (provider.key_header, provider.serves_mapped, provider.is_served) == ("x-goog-api-key", True, False)
    assert dict(ApiKey(Secret("k"), header=provider.key_header).headers()) == {"x-goog-api-key": "k"}
    assert good(name="mine", base_url=URL, wire_format="vertex").key_header == "authorization"


@pytest.mark.parametrize("provider_type", [*document()["quirks"], "mine"])
def test_the_quirks_of_a_type_are_ones_that_the_codec_knows(provider_type: str) -> None:
    assert provider_type in {*presets(), *other_formats(), "mine"}
    quirks = dict(good(name=provider_type, base_url=URL, wire_format="openai").quirks)
    assert (msgspec.convert(quirks, Quirks) == Quirks()) == (provider_type == "mine")
