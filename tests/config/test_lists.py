import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.config import with_model, without_entry
from tokenferry.errors import ConfigError, UnknownName
from tokenferry.settings import ModelMapping

PATH = Path("config.toml")
TEXT = """# who reads this?
[server]
port = 8080

# the first
[[models]]
name = "one"
[[models.mappings]]
provider = "anthropic"

# the second
[[models]]
name = "Two" # quick
mappings = [{ provider = "z.ai", actual_model = "glm-5" }]

# may it serve all?
[policy]
"""
FAST = [ModelMapping("z.ai", "glm-5"), ModelMapping("anthropic", "haiku")]
ENTRY = """[[models]]
name = "fast"
mappings = [{ provider = "z.ai", actual_model = "glm-5" }, { provider = "anthropic", actual_model = "haiku" }]
"""


def added(text: str, name: str = "fast") -> str:
    return with_model(text.encode(), PATH, name, FAST).decode()


def removed(text: str, name: str) -> str:
    return without_entry(text.encode(), PATH, "models", name).decode()


def test_an_entry_comes_after_the_last_one_and_before_the_comment_of_the_next_section() -> None:
    assert added(TEXT) == TEXT.replace("\n# may", f"\n{ENTRY}\n# may")
    assert added("") == ENTRY
    assert added("[server]\nport = 1\n") == f"[server]\nport = 1\n\n{ENTRY}"


def test_what_was_added_is_taken_out_and_nothing_else() -> None:
    for text in (TEXT, "", "[server]\nport = 1\n"):
        assert removed(added(text), "FAST") == text


def test_an_entry_goes_with_its_tables_and_all_comments_stay() -> None:
    text = removed(TEXT, "one")
    assert 'name = "one"' not in text
    assert "anthropic" not in text
    text = removed(text, "two")
    assert tomllib.loads(text) == {"server": {"port": 8080}, "policy": {}}
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# who reads this?", "# the first", "# the second", "# may it serve all?",
    ]  # fmt: skip


def test_an_unknown_name_and_another_way_of_writing_it_change_nothing() -> None:
    with pytest.raises(UnknownName, match="'three'"):
        removed(TEXT, "three")
    for text in (
        'models = [{ name = "one", mappings = [] }]\n',
        'x = """\n[[models]]\n"""\n[[models]]\nname = "one"\n',
    ):
        with pytest.raises(ConfigError, match="tokenferry config edit"):
            removed(text, "one")
    with pytest.raises(ConfigError, match="tokenferry config edit"):
        added('models = [{ name = "one", mappings = [] }]\n')


SECTIONS = st.lists(
    st.sampled_from(("[server]\nport = 1", "# a comment", "", "[pool]", '[[providers]]\nname = "x"', "[router]")),
    unique=True,
).map("\n".join)


@given(SECTIONS, st.lists(st.text(min_size=1, max_size=8), unique_by=str.casefold, max_size=3), st.randoms())
def test_whatever_is_added_and_removed_the_rest_means_the_same(text: str, names: list[str], random: Any) -> None:
    content = f"{text}\n".encode()
    before = tomllib.loads(content.decode())
    for name in names:
        content = with_model(content, PATH, name, FAST)
    assert [one["name"] for one in tomllib.loads(content.decode()).get("models", [])] == names
    for name in random.sample(names, len(names)):
        content = without_entry(content, PATH, "models", name)
    assert tomllib.loads(content.decode()) == before
