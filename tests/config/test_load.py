import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from config.written import Write, problems
from effort import effort
from leaks import leaks, shows
from tokenferry.accounts import accounts_from_keys
from tokenferry.config import Config, load
from tokenferry.credentials import ApiKey
from tokenferry.errors import ConfigError, TokenferryError, UnsafeFile
from tokenferry.providers import builtin_providers
from tokenferry.secret import Secret
from tokenferry.settings import LogSettings, PolicySettings, RouterSettings, ServerSettings, UpstreamSettings

KEY = "sk-ant-api03-Eeghoh5aighaeCh4aiz0Iez0quoh9Thee1"


# -- the file


def test_no_file_is_the_built_in_configuration(tmp_path: Path) -> None:
    assert load(tmp_path / "none.toml") == Config()
    assert load(tmp_path / "no" / "folder" / "none.toml") == Config()


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}/none.toml not found")):
        load(tmp_path / "none.toml", required=True)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes("[server]\nport = 1\n".encode(encoding))
    path.chmod(0o600)
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert str(refused.value) == (
        f"{path} begins with a byte order mark, which TOML has none of; save it as UTF-8 without BOM"
    )


def test_an_empty_file_changes_nothing(write: Write, tmp_path: Path) -> None:
    config = write("")
    assert config == Config(path=tmp_path / "config.toml")


def test_every_section_is_read(write: Write) -> None:
    config = write("""
        [server]
        host = "::1"
        port = 0
        allowed_hosts = ["gateway.local"]
        [log]
        level = "debug"
        [router]
        account = "work"
        providers = ["mine", "anthropic"]
        [policy]
        subscriptions = "own-use"
        [[providers]]
        name = "mine"
        base_url = "https://llm.example"
    """)
    assert config.server == ServerSettings("::1", 0, allowed_hosts=("gateway.local",))
    assert config.log == LogSettings("debug")
    assert config.router == RouterSettings(("mine", "anthropic"), "work")
    assert config.policy == PolicySettings("own-use")
    assert list(config.providers) == ["mine", *builtin_providers()]


@pytest.mark.parametrize(
    "name", ["gateway.lan", "gateway.lan:8080", "GATEWAY", "my_host", "10.0.0.1:80", "[fd00::1]", "[::1]:65535", "a.b."]
)
def test_an_allowed_host_is_what_a_host_header_can_be(write: Write, name: str) -> None:
    assert write(f'[server]\nallowed_hosts = ["{name}"]').server.allowed_hosts == (name,)


@pytest.mark.parametrize(
    "name",
    ["*", "*.lan", "https://gateway.lan", "gateway.lan/", "a b", "gateway.lan:", "a:b", "a:70000", "fd00::1", "[x]",
     "[1.2.3.4]", "gateway.lan:80:80", "gäteway", "-a", "user@gateway.lan"],
)  # fmt: skip
def test_what_no_host_header_can_be_is_no_allowed_host(write: Write, name: str) -> None:
    with pytest.raises(ConfigError, match="which no Host header can be; write NAME, NAME:PORT"):
        write(f'[server]\nallowed_hosts = ["{name}"]')


def test_how_upstreams_are_reached_is_read(write: Write, tmp_path: Path) -> None:
    assert write("upstream = {}").upstream == UpstreamSettings()
    (tmp_path / "ca.pem").touch()
    upstream = write('[upstream]\nca_file = "ca.pem"\nmax_connections = 8\nresponse_timeout = "5m"').upstream
    assert upstream == UpstreamSettings(ca_file=tmp_path / "ca.pem", max_connections=8, response_timeout=300)


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666, 0o622])
def test_a_file_that_others_could_write_is_refused_with_the_fix(write: Write, tmp_path: Path, mode: int) -> None:
    write("")
    path = tmp_path / "config.toml"
    path.chmod(mode)
    with pytest.raises(UnsafeFile, match=re.escape(f"chmod {mode & ~0o022:04o} '{path}'")) as caught:
        load(path)
    assert f"{mode:04o}" in str(caught.value)
    assert path.stat().st_mode & 0o777 == mode


def test_a_file_that_others_can_only_read_will_do(write: Write, tmp_path: Path) -> None:
    write("")
    (tmp_path / "config.toml").chmod(0o644)
    load(tmp_path / "config.toml")


@pytest.mark.parametrize(
    "raw",
    [
        b"[server",
        b"port = \xff",
        b"\xef\xbb\xbf",
        b"a = 1\na = 2",
        b"a = " + b"9" * 5000,
        b"a = " + b"[" * 5000,
        b"\x00",
        b'key = "' + KEY.encode(),
        b"api_key = " + KEY.encode(),
    ],
)
def test_what_is_no_toml_is_a_config_error_that_names_the_file(write: Write, tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "config.toml"))) as caught:
        write(raw)
    assert not leaks(caught.value, KEY)


# -- all faults at once


def test_every_fault_is_reported_at_once_with_its_place(write: Write) -> None:
    assert problems(
        write,
        """
        serve = 1
        [server]
        prot = 1
        port = "x"
        host = ""
        log_level = "loud"
        allowed_hosts = ["a", 1]
        [router]
        account = 5
        providers = ["nobody"]
        [policy]
        subscription = "mine"
        [[providers]]
        base_url = "https://llm.example"
        [[providers]]
        name = "mine"
        base_url = "https://llm.example"
        [providers.oauth]
        token_enpoint = "https://llm.example/token"
        """,
    ) == (
        "serve is not a known key; did you mean server?",
        "server.prot is not a known key; did you mean port?",
        "server.port must be a whole number from 0 to 65535",
        "server.host must be a string that is not empty",
        "server.log_level must be one of debug, info, warning, error",
        "server.allowed_hosts must be a list of strings",
        "router.account must be a string",
        f"router.providers names 'nobody', which is not a provider; known: mine, {', '.join(builtin_providers())}",
        "policy.subscription must be one of claude-code-only, own-use",
        "providers[1].name is missing",
        "providers.mine.oauth.token_enpoint is not a known key; did you mean token_endpoint?",
    )


@pytest.mark.parametrize(
    "broken",
    ['name = "mine"\nbase_url = "http://llm.example"', 'base_url = "https://llm.example"', 'name = "mine"', "name = 5"],
)
def test_a_provider_without_a_name_or_url_has_no_further_faults_made_up_for_it(write: Write, broken: str) -> None:
    """Each of its faults is told once, and the keys that follow are known ones."""
    reported = problems(
        write,
        f"""
        [[providers]]
        {broken}
        auth_type = "oauth"
        enabled = true
        accounts = ["a"]
        [providers.oauth]
        token_endpoint = "{{base_url}}/token"
        """,
    )
    assert not [problem for problem in reported if "not a known key" in problem or "token_endpoint" in problem]
    assert len({problem.split()[0] for problem in reported}) == len(reported)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server = 3", "server must be a table"),
        ("[[server]]", "server must be a table"),
        ("providers = {}", "providers must be written as [[providers]]"),
        ("providers = [1]", "providers[1] must be a table"),
        ("server.port = 65536", "server.port must be a whole number"),
        ("server.port = -1", "server.port must be a whole number"),
        ("server.port = true", "server.port must be a whole number"),
        ("server.port = nan", "server.port must be a whole number"),
        ("server.port = inf", "server.port must be a whole number"),
        ("server.port = 80.5", "server.port must be a whole number"),
        ("policy.subscriptions = false", "policy.subscriptions must be one of"),
        ('upstream.ca_file = "absent.pem"', "upstream.ca_file must be the path of a file of certificates"),
        (f'upstream.ca_file = "{"x" * 300}"', "upstream.ca_file must be the path of a file of certificates"),
        ("upstream.ca_file = true", "upstream.ca_file must be a string"),
        ("upstream.max_connections = -1", "upstream.max_connections must be a whole number from 0"),
        ("upstream.max_connections = 1.5", "upstream.max_connections must be a whole number"),
        (
            "nonsense = 1",
            "nonsense is not a known key; known here: accounts, alerts, budgets, dashboard, ledger, log,",
        ),
    ],
)
def test_a_wrong_value_is_named_by_its_key(write: Write, text: str, problem: str) -> None:
    assert any(reported.startswith(problem) for reported in problems(write, text))


def test_a_provider_declared_twice_is_a_fault(write: Write) -> None:
    twice = '[[providers]]\nname = "mine"\nbase_url = "https://llm.example"\n' * 2
    assert problems(write, twice) == ("providers.mine.name is declared twice; give each provider a name of its own",)


# -- api_key


def provider(api_key: str, name: str = "mine") -> str:
    return f'[[providers]]\nname = "{name}"\nbase_url = "https://llm.example"\napi_key = {api_key}\n'


@pytest.mark.parametrize("where", ["'$MY_KEY'", "'${MY_KEY}'"])
def test_a_key_may_come_from_a_variable(write: Write, where: str) -> None:
    config = write(provider(where), {"MY_KEY": f" {KEY}\n"})
    assert config.keys == {"mine": ApiKey(Secret(KEY))}
    assert not shows(repr(config), KEY)


@pytest.mark.parametrize("environ", [{}, {"MY_KEY": ""}])
def test_a_variable_that_is_not_set_is_a_warning(write: Write, environ: dict[str, str]) -> None:
    config = write(provider("'$MY_KEY'"), environ)
    assert not config.keys
    assert [warning.partition(": ")[2] for warning in config.warnings] == [
        "providers.mine.api_key names MY_KEY, which is not set, so that account is missing"
    ]


@pytest.mark.parametrize("where", ["key.txt", "./key.txt", "keys/key.txt"])
def test_a_key_may_come_from_a_private_file_beside_the_configuration(write: Write, tmp_path: Path, where: str) -> None:
    path = tmp_path / where
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    assert write(provider(f"'{where}'")).keys == {"mine": ApiKey(Secret(KEY))}


def test_a_key_file_may_lie_below_the_home_directory(write: Write) -> None:
    path = Path.home() / "key.txt"
    path.write_text(KEY)
    path.chmod(0o600)
    assert write(provider("'~/key.txt'")).keys == {"mine": ApiKey(Secret(KEY))}


def test_a_key_file_that_others_can_read_is_refused_with_the_fix(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "key.txt"
    path.write_text(KEY)
    path.chmod(0o644)
    (problem,) = problems(write, provider("'key.txt'"))
    assert f"chmod 0600 '{path}'" in problem


@pytest.mark.parametrize(
    "literal",
    [
        KEY,
        KEY + "x" * 300,
        f"sk/{KEY}/x",
        f"/{KEY}",
        f"sk/{KEY}" + "x" * 5000,
        f"~{KEY}/x",
        f"${KEY}",
        f"$ {KEY}",
        f"${{{KEY}}}",
        f"{KEY}\\u0000",
        "$",
        "${}",
    ],
)
def test_a_key_itself_is_refused_and_shown_nowhere(write: Write, literal: str) -> None:
    with pytest.raises(ConfigError, match="a key itself does not belong here") as caught:
        write(provider(f'"{literal}"'))
    assert not leaks(caught.value, KEY)


@pytest.mark.parametrize("value", [f"{KEY} {KEY}", f"{KEY}\u00e9", " ", f"{KEY}\r\nx: y"])
def test_what_a_variable_or_file_holds_is_not_echoed_either(write: Write, tmp_path: Path, value: str) -> None:
    (tmp_path / "key.txt").write_text(value)
    (tmp_path / "key.txt").chmod(0o600)
    for where in ("$MY_KEY", "key.txt"):
        with pytest.raises(ConfigError, match="leads to no usable key") as caught:
            write(provider(f"'{where}'"), {"MY_KEY": value})
        assert not leaks(caught.value, KEY)


def test_no_value_of_the_file_is_in_a_traceback(write: Write) -> None:
    """A token may stand anywhere in a file that somebody wrote by hand."""
    with pytest.raises(ConfigError) as caught:
        write(f'token = "{KEY}"\n[server]\nport = "{KEY}"\n[policy]\nsubscription = "{KEY}"')
    assert not leaks(caught.value, KEY)


def test_a_provider_whose_key_makes_an_account_needs_a_name_that_makes_one(write: Write) -> None:
    config = write(provider("'$MY_KEY'", name="my own keys"), {"MY_KEY": KEY})
    assert list(config.keys) == ["my own keys"]
    assert accounts_from_keys(config.keys)["my-own-keys"].account.provider == "my own keys"
    assert "makes the account my-own-keys" in config.warnings[0]
    assert problems(write, provider("'$MY_KEY'", name="(!)"), {"MY_KEY": KEY}) == (
        "providers.(!).name with an api_key also names an account: letters, digits and . _ @ + - only",
    )
    two = provider("'$MY_KEY'", name="my keys") + provider("'$MY_KEY'", name="my-keys")
    assert problems(write, two, {"MY_KEY": KEY}) == (
        "providers.my-keys.name with an api_key also names an account, my-keys, as another provider's does",
    )


def test_variables_come_from_the_environment_unless_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    path = tmp_path / "config.toml"
    path.write_text(provider("'$MY_KEY'"))
    path.chmod(0o600)
    assert load(path).keys == {"mine": ApiKey(Secret(KEY))}


# -- junk


def test_how_the_gateway_listens_is_read(write: Write, tmp_path: Path) -> None:
    text = 'uds = "run/a.sock"\ntls_cert = "/c.pem"\ntls_key = "k.pem"\nworkers = 4\ndrain_timeout = "1500ms"'
    server = write(f"[server]\n{text}").server
    assert (server.uds, server.tcp) == (tmp_path / "run" / "a.sock", False)
    assert (server.tls_cert, server.tls_key) == (Path("/c.pem"), tmp_path / "k.pem")
    assert (server.workers, server.drain_timeout) == (4, 1.5)
    assert write('[server]\nuds = "a.sock"\nport = 1').server.tcp
    assert write('[server]\nuds = "a.sock"\nhost = "::1"').server.tcp
    assert write("[server]").server.tcp


def test_a_certificate_that_is_not_there_is_warned_of(write: Write, tmp_path: Path) -> None:
    (tmp_path / "k.pem").touch()
    (warning,) = write('server.tls_cert = "c.pem"\nserver.tls_key = "k.pem"').warnings
    assert f"server.tls_cert is {tmp_path / 'c.pem'}, which does not exist" in warning


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (f'server.uds = "/{"s" * 103}"', "server.uds is longer than 103 bytes"),
        ('log.file = "/none/a.log"', "log.file is /none/a.log, whose folder is not there"),
    ],
)
def test_what_no_gateway_starts_with_is_warned_of(write: Write, text: str, doubt: str) -> None:
    (warning,) = write(text).warnings
    assert f"{doubt}, so no gateway will start" in warning


@pytest.mark.parametrize("name", ["a\\nb", "\\u001b[2J", " a", "a\\u2028", "a" * 65])
def test_a_provider_has_a_name_that_can_be_shown(write: Write, name: str) -> None:
    text = f'[[providers]]\nname = "{name}"\nbase_url = "https://x.example"'
    (problem,) = problems(write, text)
    assert problem.isprintable()
    assert "printable" in problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('server.tls_cert = "c.pem"', "server.tls_cert and tls_key must be set together"),
        ('server.tls_key = "k.pem"', "server.tls_cert and tls_key must be set together"),
        ('server.host = "a b"', "server.host must be an address or a name of this machine"),
        ("server.workers = 0", "server.workers must be a whole number from 1 to 64"),
        ("server.workers = 1.5", "server.workers must be a whole number from 1 to 64"),
        ("server.drain_timeout = -1", 'server.drain_timeout must be a duration from 0s to 1h, as in "30s" or "5m"'),
        ('server.uds = "a\\u0000b"', "server.uds is not a file's path"),
        ('server.uds = "~nobody-of-that-name/a"', "server.uds names a home directory that is not known here"),
    ],
)
def test_how_the_gateway_can_not_listen_is_reported(write: Write, text: str, problem: str) -> None:
    assert problems(write, text) == (problem,)


def toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            escaped = "".join(
                character if " " <= character <= "~" and character not in '"\\' else f"\\U{ord(character):08x}"
                for character in value
            )
            return f'"{escaped}"'
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case _:
            return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"


KNOWN = sorted(
    {"server", "gateway", "policy", "providers", "models", "router", "host", "port", "log_level", "allowed_hosts"}
    | {"account", "accounts", "subscription", "name", "provider_type", "base_url", "auth_type", "enabled", "strategy"}
    | {
        "oauth",
        "oauth_provider",
        "api_key",
        "authorization_endpoint",
        "token_endpoint",
        "revocation_endpoint",
        "client_id",
        "scopes",
    }
    | {"client_secret_file", "redirect_uri", "loopback_redirect", "token_body", "state_in_exchange", "reuse_grace"}
    | {
        "enterprise_url",
        "device_authorization_endpoint",
        "federation_url",
        "federation_headers",
        "federation_parameters",
        "api_key_url",
        "profile_url",
    }
    | {"uds", "tls_cert", "tls_key", "workers", "drain", "timeouts", "api_timeout_ms", "connect_timeout"}
    | {"mappings", "actual_model", "priority", "provider", "default", "background", "auto_map_regex", "rules"}
    | {"model", "headers", "keys", "min_bytes", "unmapped", "passthrough", "wire_format"}
)
WORDS = ["anthropic", "console", "claude-max", "sandbox", "own", "oauth", "api_key", "https://[", "https://claude.ai"]
WORDS += ["http://127.0.0.1:1", "{base_url}/x", "https://a.example:99999", "$A", "~x", "https://a\\b", "/", "."]
keys = st.sampled_from(KNOWN) | st.text(string.printable, max_size=3)
text = st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
leaf = st.booleans() | st.integers() | st.floats() | text
junk = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
tables = st.dictionaries(keys, junk, max_size=8)
declarations = st.fixed_dictionaries({}, optional={"name": text, "base_url": text, "oauth": tables}).flatmap(
    lambda known: tables.map(lambda rest: {**rest, **known})
)
files = st.fixed_dictionaries(
    {},
    optional={
        "providers": st.lists(declarations, max_size=3) | junk,
        "server": tables | junk,
        "gateway": tables | junk,
        "policy": tables | junk,
        "models": st.lists(tables, max_size=3) | junk,
        "router": tables | junk,
        "other": junk,
    },
)


@given(files)
@example({"providers": [{"name": "a", "base_url": "https://a", "oauth": {"authorization_endpoint": "https://["}}]})
@example({"providers": [{"name": 5, "api_key": "x" * 300}]})
@settings(suppress_health_check=list(HealthCheck), max_examples=effort(300), deadline=None)
def test_no_junk_raises_anything_but_an_error_of_ours(write: Write, data: dict[str, Any]) -> None:
    try:
        config = write("\n".join(f"{key} = {toml(value)}" for key, value in data.items()))
    except TokenferryError as fault:
        assert isinstance(fault, ConfigError)  # noqa: PT017  # either outcome is right
        assert fault.problems  # noqa: PT017  # the file was TOML
        return
    for one in config.providers.values():
        assert one.bills_subscription(ApiKey(Secret(KEY))) is one.subscription
        assert not {"{base_url}"} & {one.endpoints.token_endpoint, one.endpoints.authorization_endpoint}
    for table in data.get("providers", []):
        assert table["name"] in config.providers


# -- for one credential


def lenient(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load(path, environ={}, for_credential=True)


@pytest.mark.parametrize(
    "fault",
    [
        "[server]\nprot = 1\n",
        "[router]\nproviders = 7\n",
        '[pool]\nstrategy = "none"\n',
        "[[models]]\nname = 5\n",
        '[router]\nbackground_regex = "("\n',
        "[anything]\nelse = 1\n",
        '[[providers]]\nbase_url = "https://nameless.example"\n',
        '[[providers]]\nname = "console"\nbase_url = "ftp://x"\n',
        '[[providers]]\nname = "other"\nbase_url = "https://x.example"\napi_key = "nowhere"\n',
    ],
)
def test_a_fault_that_does_not_rule_a_credential_keeps_it_from_no_program(tmp_path: Path, fault: str) -> None:
    config = lenient(tmp_path, fault)
    assert config.faults
    config.check_provider("anthropic")
    with pytest.raises(ConfigError):
        load(tmp_path / "config.toml", environ={})


@pytest.mark.parametrize(
    "fault",
    [
        '[policy]\nsubscription = "mine"\n',
        "policy = 1\n",
        '[polcy]\nsubscriptions = "claude-code-only"\n',
        'subscriptions = "claude-code-only"\n',
        '[store]\nurl = "x"\n',
        "[sealing]\non = 1\n",
        "[encryption]\non = 1\n",
        "providers = 1\n",
        "[server\n",
    ],
)
def test_a_fault_that_may_rule_every_credential_stops_each(tmp_path: Path, fault: str) -> None:
    with pytest.raises(ConfigError):
        lenient(tmp_path, fault)


@pytest.mark.parametrize(
    "fault",
    [
        "base_url = 5\n",
        'key_header = "cookie"\n',
        "subscription = 1\n",
        "nonsense = 1\n",
        "oauth = { token_endpoint = 1 }\n",
    ],
)
def test_a_fault_of_its_own_provider_stops_a_credential(tmp_path: Path, fault: str) -> None:
    config = lenient(tmp_path, f'[[providers]]\nname = "anthropic"\n{fault}')
    config.check_provider("console")
    with pytest.raises(ConfigError, match=r"providers\.anthropic"):
        config.check_provider("anthropic")


@pytest.mark.parametrize("value", ["hello", "sk-proj-abcdefghijklmnop"])
def test_a_key_of_another_vendor_s_shape_makes_no_account(write: Write, value: str) -> None:
    config = write('[[providers]]\nname = "anthropic"\napi_key = "$MY_KEY"\n', {"MY_KEY": value})
    assert not config.keys
    assert any("so that account is missing" in warning for warning in config.warnings)
    assert not any(value in warning for warning in config.warnings)


@pytest.mark.parametrize("value", [f'"{KEY}"', f"'{KEY}'", f"MY_KEY={KEY}", f"{KEY}\n{KEY}"])
def test_what_surrounds_a_key_elsewhere_is_no_part_of_it(write: Write, value: str) -> None:
    with pytest.raises(ConfigError, match="api_key leads to no usable key") as caught:
        write(provider("'$MY_KEY'"), {"MY_KEY": value})
    assert not shows(str(caught.value), KEY)
