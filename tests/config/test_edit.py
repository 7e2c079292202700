import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.config import changed, examine_content
from tokenferry.config._edit import typed_value
from tokenferry.errors import ConfigError, UnknownName

PATH = Path("config.toml")
TEXT = """# who reads this?
[server]
host = "127.0.0.1" # loopback
port = 8080

# The gateway
[router]
account = "a"

[[providers]]
name = "idp"
base_url = "https://x.example"
# the end of idp

[policy]
subscriptions = "claude-code-only"
"""


def set_(text: str, *pairs: tuple[str, str | None]) -> str:
    content = text.encode()
    for name, value in pairs:
        content = changed(content, PATH, name, value)
    return content.decode()


def test_a_value_is_replaced_in_place() -> None:
    assert set_(TEXT, ("server.port", "9090")) == TEXT.replace("8080", "9090")
    assert set_(TEXT, ("server.host", "::1")) == TEXT.replace('"127.0.0.1"', '"::1"')


def test_a_new_key_comes_after_the_last_one_and_before_what_belongs_to_the_next_table() -> None:
    text = set_(TEXT, ("server.workers", "2"), ("providers.idp.enabled", "false"))
    assert text == TEXT.replace("8080\n", "8080\nworkers = 2\n").replace("\n# the", "\nenabled = false\n# the")


def test_tables_are_made_with_an_empty_line_before_them() -> None:
    assert set_("", ("server.port", "1")) == "[server]\nport = 1\n"
    text = set_(
        TEXT,
        ("providers.idp.oauth.token_endpoint", "https://y.example"),
        ("providers.new.base_url", "https://n.example"),
    )
    assert text == TEXT.replace(
        "# the end of idp\n",
        '# the end of idp\n\n[providers.oauth]\ntoken_endpoint = "https://y.example"\n'
        '\n[[providers]]\nname = "new"\nbase_url = "https://n.example"\n',
    )
    assert set_("server.port = 1\n", ("providers.idp.base_url", "https://x.example")) == (
        'server.port = 1\n\n[[providers]]\nname = "idp"\nbase_url = "https://x.example"\n'
    )


def test_a_built_in_provider_can_be_changed() -> None:
    assert tomllib.loads(set_("", ("providers.anthropic.enabled", "false"))) == {
        "providers": [{"name": "anthropic", "enabled": False}]
    }


def test_what_is_set_is_taken_out_and_what_is_not_set_is_no_fault() -> None:
    assert set_(TEXT, ("server.port", None), ("server.drain_timeout", None)) == TEXT.replace("port = 8080\n", "")
    assert set_(TEXT, ("providers.anthropic.enabled", None)) == TEXT


@pytest.mark.parametrize("text", ["server = {port = 1} # c\n", "server.port = 1 # c\n", '["server"]\n"port" = 1 # c\n'])
def test_every_way_of_writing_a_table_is_known(text: str) -> None:
    new = set_(text, ("server.port", "2"), ("server.host", "::1"))
    assert tomllib.loads(new) == {"server": {"port": 2, "host": "::1"}}
    assert "# c" in new


def test_tables_that_are_written_in_two_places_are_changed_or_refused_and_never_broken() -> None:
    text = '[providers_]\n[server]\nport = 1\n[gateway]\n[[providers]]\nname = "a"\n[[providers]]\nname = "b"\n'
    with pytest.raises(UnknownName):
        set_(text, ("providers.a.nothing", "1"))
    assert tomllib.loads(set_(text, ("providers.b.enabled", "false")))["providers"][1] == {
        "name": "b",
        "enabled": False,
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("server.prot", "did you mean server.port"),
        ("server", "it is a section"),
        ("x", "tokenferry config show"),
        ("providers.idp.base_ulr", "did you mean providers.idp.base_url"),
    ],
)
def test_an_unknown_setting_is_reported_with_the_nearest_one(name: str, words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        set_(TEXT, (name, "1"))


def test_a_table_that_only_has_to_be_there_is_made() -> None:
    assert tomllib.loads(set_("[accounts.work]\nmax_concurrency = 1\n", ("accounts.home.max_concurrency", "5"))) == {
        "accounts": {"work": {"max_concurrency": 1}, "home": {"max_concurrency": 5}}
    }
    assert tomllib.loads(set_("", ("accounts.work.max_concurrency", "2"))) == {
        "accounts": {"work": {"max_concurrency": 2}}
    }
    for name in ("accounts.work.colour", "models.x.name", "x.y.z"):
        with pytest.raises(UnknownName):
            set_(TEXT, (name, "5"))


def test_providers_of_another_shape_are_left_to_a_person() -> None:
    with pytest.raises(ConfigError, match="tokenferry config edit"):
        set_("[providers]\nx = 1\n", ("providers.new.base_url", "https://x.example"))


def test_what_is_no_toml_is_reported() -> None:
    with pytest.raises(ConfigError, match="is not valid TOML"):
        set_("server = [", ("server.port", "1"))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("8080", "number", 8080),
        ("1.5", "number", 1.5),
        ("x", "number", "x"),
        ("true", "flag", True),
        ("8080", "text", "8080"),
        ('"a b"', "text", "a b"),
        ("'a'", "text", "a"),
        ("a b", "text", "a b"),
        ("true", "text", "true"),
        ("", "text", ""),
        ("a\nb = 1", "text", "a\nb = 1"),
        ("a,b , c", "texts", ["a", "b", "c"]),
        ('["a", "b,c"]', "texts", ["a", "b,c"]),
        ("", "texts", []),
        ('{a = "b"}', "strings", {"a": "b"}),
    ],
)
def test_a_text_means_what_the_setting_takes(text: str, kind: str, value: object) -> None:
    assert typed_value(text, kind) == value  # type: ignore[arg-type]  # a row


@given(value=st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=40))
def test_any_text_arrives_as_it_was_given(value: str) -> None:
    """Unless it is a TOML string itself, and means what is in it."""
    text = set_(TEXT, ("router.account", value))
    found = tomllib.loads(text)["router"]["account"]
    assert found == value or value[0] == value[-1] in {'"', "'"}
    assert text.replace(text[text.index("account = ") : text.index("\n\n[[")], 'account = "a"') == TEXT


@given(
    names=st.lists(
        st.sampled_from(
            [
                ("server.port", "1"),
                ("server.allowed_hosts", "a,b"),
                ("upstream.max_connections", "8"),
                ("router.account", "work"),
                ("providers.idp.oauth.client_id", "me"),
                ("providers.anthropic.enabled", "false"),
                ("providers.console.enabled", "false"),
                ("server.port", None),
                ("router.account", None),
            ]
        ),
        max_size=6,
    )
)
def test_whatever_is_set_all_comments_stay_and_the_result_can_be_used(names: list[tuple[str, str | None]]) -> None:
    text = set_(TEXT, *names)
    for comment in ("# who reads this?\n", "# The gateway\n[router]\n", "# the end of idp\n"):
        assert comment in text
    examined = examine_content(text.encode(), PATH)
    assert not examined.problems
    for name, value in dict(names).items():
        assert examined.settings[name].is_given is (value is not None)
