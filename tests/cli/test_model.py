"""`model` and `provider remove`: lists of config.toml, changed by commands that gateways follow."""

import time
from collections.abc import Callable

import pytest

from cli.documents import document, put
from cli.harness import Outcome
from tokenferry.settings import Home

Inside = Callable[..., Outcome]

CONFIG = """# mine
[[providers]]
name = "z.ai"
provider_type = "z.ai"
api_key = "$ZAI_API_KEY"

# the end
"""


@pytest.fixture
def configured(home: Home) -> Home:
    home.config.write_text(CONFIG)
    home.config.chmod(0o600)
    return home


def test_a_name_is_mapped_listed_and_taken_out_again(configured: Home, inside: Inside) -> None:
    outcome = inside("model", "add", "fast", "z.ai/glm-5", "anthropic/claude-haiku-4-5")
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"mapped fast to z.ai/glm-5, anthropic/claude-haiku-4-5 in {configured.config}\n"
    (model,) = inside("model", "list", "--json").json
    assert model["mappings"][0] == {"provider": "z.ai", "actual_model": "glm-5"}
    assert "z.ai/glm-5, anthropic/claude-haiku-4-5" in inside("model", "list").out
    assert "already mapped" in inside("model", "add", "FAST", "z.ai/glm-5").one_line()
    assert inside("model", "remove", "fast").out == f"removed model fast from {configured.config}\n"
    assert configured.config.read_text() == CONFIG
    assert [action in configured.audit.read_text() for action in ("model.add", "model.remove")] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("add", "fast", "glm-5"), 2, "write it as PROVIDER/MODEL"),
        (("remove", "fats"), 4, "there is no model 'fats'; there is none yet (see: tokenferry model list)"),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    configured: Home, inside: Inside, arguments: tuple[str, ...], code: int, words: str
) -> None:
    outcome = inside("model", *arguments)
    assert (outcome.code, words in outcome.one_line()) == (code, True)
    assert configured.config.read_text() == CONFIG


def test_an_unknown_provider_is_named_and_nothing_written(configured: Home, inside: Inside) -> None:
    outcome = inside("model", "add", "fast", "zai/glm-5")
    assert outcome.code == 3
    assert "nothing was written" in outcome.err
    assert "'zai'" in outcome.err
    assert configured.config.read_text() == CONFIG


def test_a_declared_provider_is_removed_and_a_built_in_one_is_not(configured: Home, inside: Inside) -> None:
    assert "is built in" in inside("provider", "remove", "anthropic").one_line()
    assert "did you mean 'z.ai'?" in inside("provider", "remove", "zai").one_line()
    outcome = inside("provider", "remove", "z.ai")
    assert (outcome.code, outcome.out) == (0, f"removed provider z.ai from {configured.config}\n")
    assert configured.config.read_text() == "# mine\n\n# the end\n"


def test_an_account_that_goes_with_its_provider_is_not_among_those_that_stay(
    configured: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAI_API_KEY", "zai-key-0123456789")
    put(configured, document(time.time(), name="stored", provider="z.ai"), "stored")
    outcome = inside("provider", "remove", "z.ai", "--json")
    assert outcome.json["accounts_left"] == ["stored"]
    assert "serve nothing: stored;" in outcome.err
