import stat
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.harness import Outcome, tokenferry
from tokenferry.providers import presets
from tokenferry.settings import Home

Inside = Callable[..., Outcome]

KEY = "sk-or-v1-abcdefghijklmnop"
TEXT = "# mine\n[server]\nport = 8080 # ours\n"


@pytest.fixture
def written(home: Home) -> Path:
    home.config.parent.mkdir(mode=0o700, exist_ok=True)
    home.config.write_text(TEXT)
    home.config.chmod(0o600)
    return home.config


def test_a_preset_is_declared_behind_the_rest_and_its_key_becomes_an_account(
    home: Home, written: Path, inside: Inside
) -> None:
    outcome = inside("provider", "add", "openrouter", stdin=KEY)
    assert outcome.code == 0, outcome.err
    assert outcome.hides(KEY)
    assert written.read_text() == TEXT + '\n[[providers]]\nname = "openrouter"\n'
    assert tokenferry("token", "openrouter").out.strip() == KEY
    assert KEY not in written.read_text()
    assert '"provider.add"' in home.audit.read_text()


def test_a_server_on_this_machine_is_added_without_a_key_and_with_one_where_it_is_asked_for(inside: Inside) -> None:
    assert inside("provider", "add", "ollama", stdin="sk-of-another-program").code == 0
    assert tokenferry("token", "ollama").out.strip() == "ollama"
    assert inside("provider", "add", "ollama", "--name", "guarded", "--key", stdin="real-key").code == 0
    assert tokenferry("token", "guarded").out.strip() == "real-key"


def test_a_key_of_another_vendors_shape_is_stored_with_a_warning(home: Home, inside: Inside) -> None:
    key = "sk-ant-api03-abcdefghijklmnop"
    added = inside("provider", "add", "gemini", stdin=key)
    more = inside("account", "add", "second", "--provider", "gemini", stdin=key)
    for outcome, name in ((added, "gemini"), (more, "second")):
        assert outcome.code == 0, outcome.err
        assert "the key looks like an API key of Anthropic; if it isn't the one you meant" in outcome.err
        assert f"tokenferry account add {name} --replace" in outcome.err
        assert (home.accounts / f"{name}.json").exists()


def test_a_region_becomes_part_of_the_address(home: Home, inside: Inside) -> None:
    outcome = inside("provider", "add", "bedrock", "--region", "eu-central-1", stdin="ABSK0123456789abcdef")
    assert outcome.code == 0, outcome.err
    assert tomllib.loads(home.config.read_text())["providers"] == [{"name": "bedrock", "region": "eu-central-1"}]
    assert "https://bedrock-mantle.eu-central-1.api.aws/anthropic" in outcome.out


def test_claude_on_vertex_ai_has_googles_credentials_in_place_of_a_key(
    home: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setitem(sys.modules, "google.auth", None)
    outcome = inside("provider", "add", "vertex-claude", "--project-id", "my-project", "--location", "global")
    assert outcome.code == 0, outcome.err
    (declared,) = tomllib.loads(home.config.read_text())["providers"]
    places = {"project_id": "my-project", "location": "global"}
    assert declared == {"name": "vertex-claude", **places, "google_credentials": "default"}
    assert "https://aiplatform.googleapis.com/v1/projects/my-project/locations/global" in outcome.out
    asked = inside("token", "vertex-claude")
    assert asked.code == 6
    assert asked.err.rstrip().endswith("install it with: pip install 'tokenferry[vertex]'")
    assert "google-auth, which is not installed" in inside("doctor").out


def test_a_preset_is_shown_with_its_page_and_as_untried(inside: Inside) -> None:
    shown = inside("provider", "show", "groq").out
    assert "https://console.groq.com/docs/openai" in shown
    assert "2026-11-30, not tried with a key" in shown
    assert inside("provider", "show", "groq", "--json").json["tried_with_key"] is False


def test_a_variable_is_named_and_nothing_is_read(home: Home, inside: Inside) -> None:
    outcome = inside("provider", "add", "z.ai", "--name", "glm", "--env", "$ZAI", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["account"] is None
    assert outcome.json["name"] == "glm"
    assert tomllib.loads(home.config.read_text())["providers"] == [
        {"name": "glm", "provider_type": "z.ai", "api_key": "$ZAI"}
    ]
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600
    shown = inside("provider", "show", "glm", "--json").json
    assert (shown["base_url"], shown["key_header"], shown["state"]) == (
        "https://api.z.ai/api/anthropic",
        "authorization",
        "declared",
    )


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        ("moonshoot", KEY, "did you mean 'moonshot'?"),
        ("anthropic", KEY, "needs no preset"),
        ("bedrock", KEY, "give --region"),
        ("z.ai --region eu", KEY, "leave out --region"),
        ("azure", KEY, "give --resource, as in --resource my-resource"),
        ("vertex-claude --location eu", KEY, "give --project-id, as in --project-id my-project"),
        (
            "vertex --project-id a/b --location eu",
            "",
            "'a/b' names no project; give --project-id, as in",
        ),
        ("azure --resource https://x.openai.azure.com", "", "names no resource; give --resource"),
        ("z.ai --name ../x", KEY, "name"),
        ("z.ai --name sandbox", KEY, "provider sandbox already exists"),
        (f"z.ai --env {KEY}", "", "never the key itself"),
        ("z.ai", "", "no key was given"),
        ("z.ai", "two words", "blanks"),
    ],
)
def test_what_can_not_be_added_changes_nothing(
    written: Path, home: Home, arguments: str, stdin: str, words: str
) -> None:
    outcome = tokenferry("provider", "add", *arguments.split(), stdin=stdin)
    assert outcome.code == (4 if "did you mean" in words else 2)
    assert words in outcome.one_line()
    assert outcome.hides(KEY)
    assert written.read_text() == TEXT
    assert not home.accounts.exists() or not list(home.accounts.iterdir())


@pytest.mark.parametrize("name", ["work", "WORK"])
@pytest.mark.parametrize("more", [("--env", "A"), ()])
def test_an_account_of_that_name_in_any_case_is_in_the_way(
    written: Path, name: str, more: tuple[str, ...], inside: Inside
) -> None:
    assert inside("account", "add", "work", "--provider", "anthropic", stdin="sk-ant-api03-key").code == 0
    outcome = inside("provider", "add", "z.ai", "--name", name, *more, stdin=KEY)
    assert outcome.code == 2
    assert "account work already exists" in outcome.one_line()
    assert written.read_text() == TEXT


def test_a_broken_configuration_is_not_added_to(written: Path, inside: Inside) -> None:
    written.write_text("[server]\nport = 'x'\n")
    outcome = inside("provider", "add", "z.ai", "--env", "A")
    assert outcome.code == 3
    assert written.read_text() == "[server]\nport = 'x'\n"


def test_an_account_of_the_same_name_prevents_it(written: Path, inside: Inside) -> None:
    assert inside("account", "add", "z.ai", "--provider", "anthropic", stdin="sk-ant-api03-aaaaaaaaaaaa").code == 0
    outcome = inside("provider", "add", "z.ai", stdin=KEY)
    assert outcome.code == 2
    assert "account z.ai already exists" in outcome.err
    assert written.read_text() == TEXT


def test_the_list_names_every_preset_with_its_source(inside: Inside, home: Home) -> None:
    listed = {one["name"]: one for one in inside("provider", "list", "--json").json}
    assert {name for name, one in listed.items() if one["state"] == "preset"} == set(presets())
    assert all(listed[name]["source"].startswith("https://") for name in presets())
    assert listed["anthropic"]["state"] == "built in"
    assert inside("provider", "add", "z.ai", "--env", "A").code == 0
    assert "z.ai" in inside("provider", "list").out
    listed = {one["name"]: one for one in inside("provider", "list", "--json").json}
    assert listed["z.ai"]["state"] == "declared"
    assert listed["z.ai"]["source"] == presets()["z.ai"].source
    assert inside("provider", "show", "none-such").err.count("z.ai") == 1


def test_a_preset_is_shown_with_when_it_was_seen(inside: Inside) -> None:
    out = inside("provider", "show", "deepseek").out
    assert "checked:     2026-11-27" in out
    assert inside("provider", "show", "nobody").code == 4
