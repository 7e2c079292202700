import json
from typing import Any

import pytest
from anthropic import AnthropicError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leaks import leaks
from stores.anthropic_profiles.rig import ACCESS, EXPIRES, LOGIN, PROFILE, REFRESH, ROTATED, Profiles, by_the_sdk, write
from tokenferry.errors import CorruptFile, TokenferryError
from tokenferry.secret import Secret
from tokenferry.stores.anthropic_profiles import (
    AnthropicProfileStore,
    ProfileConfig,
    parse_config,
    parse_credentials,
    profile_account,
    render_config,
    render_credentials,
)


def config(**fields: Any) -> ProfileConfig:
    return parse_config(json.dumps({"authentication": ROTATED, **fields}).encode(), "here")


def test_what_a_configuration_says() -> None:
    found = config(
        authentication=LOGIN | {"credentials_path": "~/tokens.json"},
        base_url="https://staging.example.com/",
        organization_id="org",
        workspace_id="wrkspc",
        unheard_of=[1],
    )
    assert found == ProfileConfig(
        "user_oauth", "some-client", "https://staging.example.com", "org", "wrkspc", "~/tokens.json"
    )
    assert config(base_url="", organization_id="") == ProfileConfig("user_oauth")


@pytest.mark.parametrize(
    ("authentication", "owner"),
    [
        (LOGIN, "ant"),
        (ROTATED, "external"),
        (ROTATED | {"client_id": ""}, "external"),
        ({"type": "oidc_federation", "client_id": "odd"}, "external"),
    ],
)
def test_ant_owns_a_login_whose_client_it_knows(authentication: dict[str, Any], owner: str) -> None:
    assert config(authentication=authentication).owner == owner


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"authentication": None}, 'the object "authentication" is missing'),
        ({"authentication": []}, 'the object "authentication" is missing'),
        ({"authentication": {}}, '"authentication.type" must be one of user_oauth, oidc_federation'),
        ({"authentication": {"type": ["user_oauth"]}}, '"authentication.type"'),
        ({"base_url": "http://api.example.com"}, '"base_url" must be an https:// URL'),
        ({"base_url": "https://"}, '"base_url" must'),
        ({"base_url": "https://host:port"}, '"base_url" must'),
        ({"base_url": 7}, '"base_url" must be a string'),
    ],
)
def test_a_configuration_the_sdks_refuse_is_refused_with_the_reason(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(CorruptFile) as caught:
        config(**fields)
    assert str(caught.value).startswith("here can't be understood: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b'"text"', b"{"])
def test_what_is_no_json_object_is_reported(raw: bytes) -> None:
    with pytest.raises(CorruptFile, match="it isn't a JSON object"):
        parse_config(raw, "here")
    with pytest.raises(CorruptFile, match="it isn't a JSON object"):
        parse_credentials(raw, "here")


def credentials(**fields: Any) -> bytes:
    return json.dumps({"access_token": ACCESS, **fields}).encode()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (EXPIRES, EXPIRES),
        (EXPIRES * 1000, EXPIRES),
        (EXPIRES + 0.9, EXPIRES),
        (str(EXPIRES), EXPIRES),
        (0, None),
        (None, None),
    ],
)
def test_seconds_and_milliseconds_are_distinguished(value: object, seconds: int | None) -> None:
    token = parse_credentials(credentials(expires_at=value), "here")
    assert token is not None
    assert token.expires_at == seconds


@pytest.mark.parametrize("value", ["2026-01-01T00:00:00Z", "9" * 5000, -1, 1e300, True, [1], 5_000_000_000])
def test_an_expiry_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(CorruptFile, match='"expires_at"'):
        parse_credentials(credentials(expires_at=value), "here")


def test_the_tokens_and_what_else_is_there() -> None:
    token = parse_credentials(credentials(refresh_token=REFRESH, scope="a b", type="oauth_token", more=1), "here")
    assert token is not None
    assert (token.secret, token.refresh) == (Secret(ACCESS), Secret(REFRESH))
    assert token.scopes == ("a", "b")
    assert dict(token.unknown) == {"more": 1}


@pytest.mark.parametrize("value", [None, ""])
def test_without_an_access_token_there_is_none(value: object) -> None:
    assert parse_credentials(json.dumps({"access_token": value}).encode(), "here") is None


@pytest.mark.parametrize(
    "fields",
    [
        {"access_token": f"{ACCESS}\n{REFRESH}"},
        {"type": REFRESH},
        {"expires_at": REFRESH},
        {"refresh_token": [REFRESH]},
    ],
)
def test_no_error_shows_a_secret(fields: dict[str, Any]) -> None:
    with pytest.raises(CorruptFile) as caught:
        parse_credentials(credentials(**fields), "here")
    assert leaks(caught.value, REFRESH, ACCESS) == []


secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80)


@given(secrets, st.none() | st.integers(0, 4_102_444_800))
@settings(suppress_health_check=list(HealthCheck))
def test_the_sdk_reads_what_we_write(profiles: Profiles, secret: str, expires_at: int | None) -> None:
    write(profiles.folder.credentials(PROFILE), render_credentials(Secret(secret), expires_at))
    write(profiles.folder.config(PROFILE), render_config("https://api.anthropic.com"))
    found = by_the_sdk()
    assert (found.token, found.expires_at) == (secret, expires_at)
    token = parse_credentials(render_credentials(Secret(secret), expires_at), "here")
    assert token is not None
    assert (token.secret, token.refresh, token.expires_at) == (Secret(secret), None, expires_at or None)
    assert parse_config(render_config("https://api.anthropic.com"), "here") == ProfileConfig("user_oauth")
    url = "http://127.0.0.1:13456/"
    assert parse_config(render_config(url), "here") == ProfileConfig("user_oauth", base_url=url.rstrip("/"))


odd = st.none() | st.booleans() | st.integers(-5, 10**13) | st.just("") | st.just(ACCESS) | st.lists(st.integers())
authentications = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(["user_oauth", "other"]) | odd, "client_id": odd, "scope": odd}
)
configs = st.fixed_dictionaries(
    {},
    optional={
        "authentication": authentications | odd,
        "base_url": st.sampled_from(["https://a.example", "http://a.example", "http://localhost:1", ""]) | odd,
        "workspace_id": odd,
    },
)
credential_files = st.fixed_dictionaries(
    {},
    optional={
        "access_token": st.just(ACCESS) | odd,
        "refresh_token": odd,
        "type": st.just("oauth_token") | odd,
        "expires_at": st.integers(1_800_000_000, 4_000_000_000) | odd,
    },
)


@given(configs, credential_files)
@settings(suppress_health_check=list(HealthCheck))
def test_what_we_read_the_sdk_reads_alike(profiles: Profiles, configuration: Any, tokens: Any) -> None:
    """Only profiles whose token the SDK wouldn't renew can be compared: without a client id, or still living."""
    write(profiles.folder.config(PROFILE), configuration, 0o644)
    write(profiles.folder.credentials(PROFILE), tokens)
    account = profile_account("mine", "console", profiles.folder, PROFILE, created_at=1)
    store = AnthropicProfileStore.of(account, profiles.path / "locks")
    try:
        ours = store.read("mine")
    except TokenferryError:
        return
    if ours.account.owner == "ant":
        return
    theirs = by_the_sdk()
    assert ours.credential.secret == Secret(theirs.token)
    expiry = ours.credential.expires_at
    assert theirs.expires_at in {expiry, 0 if expiry is None else expiry} or (theirs.expires_at or 0) // 1000 == expiry


@given(configs, credential_files)
@settings(suppress_health_check=list(HealthCheck))
def test_a_profile_without_a_client_that_the_sdk_refuses_is_refused(
    profiles: Profiles, configuration: Any, tokens: Any
) -> None:
    authentication = {"type": "user_oauth"}
    write(profiles.folder.config(PROFILE), {**configuration, "authentication": authentication}, 0o644)
    write(profiles.folder.credentials(PROFILE), tokens)
    account = profile_account("mine", "console", profiles.folder, PROFILE, created_at=1)
    store = AnthropicProfileStore.of(account, profiles.path / "locks")
    try:
        by_the_sdk()
    except AnthropicError:
        with pytest.raises(TokenferryError):
            store.read("mine")
