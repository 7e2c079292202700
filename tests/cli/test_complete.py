"""Names that a shell completes."""

import pytest

from cli.harness import tokenferry
from tokenferry.cli import _complete as complete
from tokenferry.settings import Home
from tokenferry.state import State

CONFIG = """[[providers]]
name = "z.ai"
provider_type = "z.ai"
api_key = "$ZAI_API_KEY"

[[models]]
name = "fast"
mappings = [{ provider = "z.ai", actual_model = "glm-5" }]
"""
KEY = "sk-ant-api03-" + "k" * 40


@pytest.fixture
def filled(home: Home) -> Home:
    home.config.write_text(CONFIG)
    home.config.chmod(0o600)
    for name in ("work", "spare"):
        assert tokenferry("account", "add", name, stdin=KEY).code == 0
    with State(home.state) as state:
        state.keys.create("laptop")
        state.keys.create("lost")
        state.keys.revoke("lost")
    return home


def test_names_of_each_kind_are_completed(filled: Home) -> None:
    assert complete.account_names("") == ["spare", "work"]
    assert complete.account_names("w") == ["work"]
    assert complete.provider_names("z") == ["z.ai"]
    assert {"z.ai", "openrouter"} <= {*complete.providers_and_presets("")}
    assert complete.model_names("f") == ["fast"]
    assert complete.key_names("l") == ["laptop"], "a revoked key is of no use"


def test_what_can_not_be_read_completes_nothing(home: Home) -> None:
    assert complete.key_names("") == []
    home.config.write_text("[server\n")
    home.config.chmod(0o600)
    assert complete.account_names("") == complete.provider_names("") == complete.model_names("") == []


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("tokenferry use w", ["work"]),
        ("tokenferry account show s", ["spare"]),
        ("tokenferry account add new --provider z", ["z.ai"]),
        ("tokenferry key set lap", ["laptop"]),
        ("tokenferry model remove f", ["fast"]),
        ("tokenferry policy set own", ["own-use"]),
    ],
)
def test_the_shell_gets_them(filled: Home, line: str, names: list[str]) -> None:
    outcome = tokenferry(_TOKENFERRY_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(line.split()) - 1))
    assert outcome.out.split() == names
