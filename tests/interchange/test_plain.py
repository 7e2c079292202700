import pytest
from hypothesis import given
from hypothesis import strategies as st

from interchange.strategies import SECRETS
from leaks import leaks
from tokenferry.credentials import ApiKey, Credential, FederatedToken, Federation, OAuthToken, SetupToken
from tokenferry.errors import UsageError
from tokenferry.interchange import (
    parse_env_file,
    parse_environment,
    parse_key_file,
    render_environment,
    render_key_file,
)
from tokenferry.secret import Secret
from tokenferry.stores import HiddenBytes

KEY = "sk-ant-api03-" + "Kk1" * 30
SETUP = "sk-ant-oat01-" + "Ss1" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30

credentials: st.SearchStrategy[Credential] = st.one_of(
    st.builds(
        ApiKey, SECRETS.filter(lambda text: not text.startswith(("tfk_", "tfa_", "tfv_", "sk-ant-o"))).map(Secret)
    ),
    st.builds(SetupToken, st.text("abcXYZ-_$#", min_size=80).map(lambda text: Secret(f"sk-ant-oat01-{text}"))),
)


@pytest.mark.parametrize(
    ("text", "credential", "provider"),
    [
        (KEY, ApiKey(Secret(KEY)), "anthropic"),
        (SETUP, SetupToken(Secret(SETUP)), "claude-max"),
        ("other-key", ApiKey(Secret("other-key")), None),
    ],
)
def test_a_file_of_one_key_or_token_is_known_by_its_beginning(
    text: str, credential: Credential, provider: str | None
) -> None:
    (entry,) = parse_key_file(HiddenBytes(f" {text}\r\n".encode()))
    assert (entry.credential, entry.provider) == (credential, provider)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tfk_abc", "gateway"),
        (REFRESH, "a refresh token alone"),
        ("sk-ant-oat01-short", "at least 80 characters"),
    ],
)
def test_what_is_no_credential_is_reported(text: str, fault: str) -> None:
    (entry,) = parse_key_file(HiddenBytes(text.encode()))
    assert fault in entry.fault
    assert entry.credential is None


@pytest.mark.parametrize("content", [b"", b"two words", f"{KEY}\n{KEY}".encode(), b"\xff\xfe" + KEY.encode()])
def test_a_file_of_anything_else_is_refused_without_a_word_of_it(content: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        parse_key_file(HiddenBytes(content))
    assert not leaks(caught.value, KEY)


def test_the_variables_are_read_in_the_order_of_the_programs() -> None:
    environ = {"CLAUDE_CODE_OAUTH_TOKEN": SETUP, "ANTHROPIC_AUTH_TOKEN": SETUP, "ANTHROPIC_API_KEY": KEY, "PATH": "/"}
    entries = parse_environment(environ)
    assert [(entry.key, entry.credential) for entry in entries] == [
        ("ANTHROPIC_API_KEY", ApiKey(Secret(KEY))),
        ("ANTHROPIC_AUTH_TOKEN", OAuthToken(Secret(SETUP))),
        ("CLAUDE_CODE_OAUTH_TOKEN", SetupToken(Secret(SETUP))),
    ]
    assert parse_environment({}) == ()


def test_a_key_for_another_host_is_not_the_vendor_s() -> None:
    environ = {"ANTHROPIC_BASE_URL": "https://llm.example", "ANTHROPIC_API_KEY": KEY}
    (entry,) = parse_environment(environ)
    assert "ANTHROPIC_BASE_URL" in entry.fault
    assert parse_environment(environ | {"ANTHROPIC_BASE_URL": "https://api.anthropic.com/"})[0].credential
    assert parse_environment(environ | {"ANTHROPIC_BASE_URL": "https://["})[0].fault


@pytest.mark.parametrize(
    "line",
    [
        "ANTHROPIC_API_KEY={}",
        "  export ANTHROPIC_API_KEY={}\r",
        "export ANTHROPIC_API_KEY='{}'  # mine",
        'ANTHROPIC_API_KEY="{}"',
        "ANTHROPIC_API_KEY={} # ANTHROPIC_API_KEY=old",
        "ANTHROPIC_API_KEY={}#tail",
        "\ufeffANTHROPIC_API_KEY={}",
        "ANTHROPIC_API_KEY=old\nANTHROPIC_API_KEY={}",
    ],
)
@pytest.mark.parametrize(
    "other",
    [
        "",
        "# ANTHROPIC_API_KEY='",
        "OTHER=it's",
        "alias x='y",
        "if true; then",
        "2X=1",
        "OTHER=$ANTHROPIC_API_KEY",
        "OTHER='ANTHROPIC_API_KEY is set below'",
        "ANTHROPIC_API_KEY_FILE = x",
    ],
)
def test_an_env_file_is_read_as_a_shell_reads_it_whatever_else_it_holds(line: str, other: str) -> None:
    (entry,) = parse_env_file(HiddenBytes(f"{line.format(KEY)}\n{other}\n".encode()))
    assert entry.credential == ApiKey(Secret(KEY + ("#tail" if "#tail" in line else "")))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_env_file_may_begin_with_a_byte_order_mark(encoding: str) -> None:
    (entry,) = parse_env_file(HiddenBytes(f"ANTHROPIC_API_KEY={KEY}\n".encode(encoding)))
    assert entry.credential == ApiKey(Secret(KEY))


@pytest.mark.parametrize(
    "line",
    [
        "ANTHROPIC_API_KEY='{}",
        "ANTHROPIC_API_KEY = {}",
        "ANTHROPIC_API_KEY={} x",
        "ANTHROPIC_API_KEY={};x",
        "ANTHROPIC_API_KEY=$OTHER{}",
        'ANTHROPIC_API_KEY="$(pass show {})"',
        "OTHER=1 ANTHROPIC_API_KEY={}",
        "export OTHER=1 ANTHROPIC_API_KEY={}",
        "set -x ANTHROPIC_API_KEY {}",
        "$env:ANTHROPIC_API_KEY = '{}'",
        "ANTHROPIC_API_KEY: {}",
        "ANTHROPIC_BASE_URL='https://{}",
    ],
)
def test_a_line_about_a_credential_that_is_not_read_exactly_is_named_by_its_number(line: str) -> None:
    with pytest.raises(UsageError, match="line 2 can't be read exactly") as caught:
        parse_env_file(HiddenBytes(f"A=b\n{line.format(KEY)}\nCLAUDE_CODE_OAUTH_TOKEN={SETUP}\n".encode()))
    assert not leaks(caught.value, KEY, SETUP)


@pytest.mark.parametrize("text", ['"{}"', "'{}'", '{}"', "ANTHROPIC_API_KEY={}", "export X={}", "{}\n{}", "MY_KEY="])
def test_what_surrounds_a_value_elsewhere_is_refused_wherever_one_is_given(text: str) -> None:
    content = text.replace("{}", KEY)
    with pytest.raises(UsageError) as caught:
        parse_key_file(HiddenBytes(content.encode()))
    assert not leaks(caught.value, KEY)
    if "\n" not in content:
        (entry,) = parse_environment({"ANTHROPIC_API_KEY": content})
        assert entry.credential is None
        assert entry.fault


@pytest.mark.parametrize("text", ["YWJj=", "YWJjZA==", "a=", "ollama", "EMPTY", "0=="])
def test_a_value_may_end_as_base64_does(text: str) -> None:
    (entry,) = parse_key_file(HiddenBytes(text.encode()))
    assert entry.credential == ApiKey(Secret(text))


@given(credentials)
def test_what_is_written_is_read_again(credential: Credential) -> None:
    assert parse_key_file(render_key_file(credential))[0].credential == credential
    assert parse_env_file(render_environment(credential))[0].credential == credential


def test_an_access_token_goes_into_the_variable_that_takes_it() -> None:
    token = OAuthToken(Secret(SETUP), Secret(REFRESH), expires_at=1_800_000_000)
    assert render_environment(token) == f"ANTHROPIC_AUTH_TOKEN={SETUP}\n".encode()
    assert render_key_file(token) == f"{SETUP}\n".encode()
    federated = FederatedToken.of(token, Federation("/identity"))
    assert render_environment(federated) == f"ANTHROPIC_AUTH_TOKEN={SETUP}\n".encode()
