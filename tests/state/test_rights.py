from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.errors import UnknownName, UsageError
from tokenferry.state import EVERYTHING, Rights, State
from tokenferry.state._rights import read_rights, write_rights

NAMES = st.text("ab*?-", min_size=1, max_size=12)


def test_a_key_without_rights_may_use_everything_and_is_distinguished_by_one_attribute() -> None:
    assert EVERYTHING.is_everything
    assert EVERYTHING.allows_model("any")
    assert EVERYTHING.allows_model(None)
    assert EVERYTHING.allows_account("any", "any")
    assert read_rights("{}") is EVERYTHING
    for rights in (Rights(models=("a",)), Rights(providers=("a",)), Rights(accounts=("a",)), Rights(pin="a")):
        assert not rights.is_everything
        assert not Rights(models=rights.models, pin=rights.pin or "b").is_everything


@pytest.mark.parametrize(
    ("pattern", "name", "is_allowed"),
    [
        ("claude-sonnet-5-5", "claude-sonnet-5-5", True),
        ("claude-sonnet-5-5", "claude-sonnet-5-5-x", False),
        ("claude-sonnet-5-5", "xclaude-sonnet-5-5", False),
        ("claude-sonnet-5-5", "Claude-Sonnet-5-5", False),
        ("claude-sonnet-5-5", "claude-sonnet-5-5\n", False),
        ("claude-sonnet*", "claude-sonnet", True),
        ("claude-sonnet*", "claude-sonnet-5-5\nx", True),
        ("*sonnet*", "claude-sonnet-5", True),
        ("claude-?-5", "claude-3-5", True),
        ("claude-?-5", "claude-33-5", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a|b", "a", False),
    ],
)
def test_a_model_is_named_whole_or_with_wildcards(pattern: str, name: str, is_allowed: bool) -> None:  # noqa: FBT001  # a row
    assert Rights(models=("something-else", pattern)).allows_model(name) is is_allowed


def test_who_names_no_model_asks_for_one_that_is_not_allowed() -> None:
    assert not Rights(models=("*",)).allows_model(None)


@given(patterns=st.lists(NAMES, min_size=1, max_size=3), name=st.text("ab-", max_size=12))
def test_wildcards_mean_what_they_mean_in_a_shell(patterns: list[str], name: str) -> None:
    assert Rights(models=tuple(patterns)).allows_model(name) is any(fnmatchcase(name, one) for one in patterns)


def test_no_name_makes_a_pattern_slow() -> None:
    """An expression that goes back to try again wouldn't end within this century."""
    assert not Rights(models=("*a" * 60,)).allows_model("a" * 59 + "b" * 4096)


def test_a_pin_leaves_one_account() -> None:
    rights = Rights(pin="work")
    assert rights.allows_account("work", "anthropic")
    assert not rights.allows_account("home", "anthropic")


def test_an_account_needs_its_provider_too() -> None:
    rights = Rights(providers=("anthropic",), accounts=("work", "idp"))
    assert rights.allows_account("work", "anthropic")
    assert not rights.allows_account("idp", "other")
    assert not rights.allows_account("home", "anthropic")


@given(
    rights=st.builds(
        Rights,
        models=st.lists(NAMES, max_size=3).map(tuple),
        providers=st.lists(st.sampled_from(("anthropic", "a b")), max_size=2).map(tuple),
        accounts=st.sampled_from(((), ("work",), ("home", "work"))),
        pin=st.sampled_from((None, "work")),
    )
)
def test_what_is_written_is_read(rights: Rights) -> None:
    assert read_rights(write_rights(rights)) == rights


@pytest.mark.parametrize(
    "rights",
    [
        Rights(models=("",)),
        Rights(models=("a b",)),
        Rights(models=("é",)),
        Rights(models=("x" * 129,)),
        Rights(models=tuple(map(str, range(65)))),
        Rights(providers=("",)),
        Rights(providers=("a\nb",)),
        Rights(accounts=("../x",)),
        Rights(pin="a/b"),
        Rights(accounts=("work",), pin="home"),
    ],
)
def test_what_can_be_no_right_is_refused_and_makes_no_key(rights: Rights, tmp_path: Path) -> None:
    with State(tmp_path / "home" / "state.db") as state:
        with pytest.raises(UsageError):
            state.keys.create("laptop", rights=rights)
        state.keys.create("laptop")
        with pytest.raises(UsageError):
            state.keys.restrict("laptop", lambda _: rights)
        assert state.keys.get("laptop").rights == EVERYTHING


def test_an_admin_key_has_none(tmp_path: Path) -> None:
    with State(tmp_path / "home" / "state.db") as state:
        with pytest.raises(UsageError, match="admin key"):
            state.keys.create("boss", role="admin", rights=Rights(models=("a",)))
        state.keys.create("boss", role="admin")
        with pytest.raises(UsageError, match="admin key"):
            state.keys.restrict("boss", lambda _: Rights(models=("a",)))


def test_rights_changed_elsewhere_count_within_half_a_second(tmp_path: Path) -> None:
    seconds = [0.0]
    path = tmp_path / "home" / "state.db"
    with State(path, monotonic=lambda: seconds[0]) as state, State(path) as elsewhere:
        _, secret = state.keys.create("laptop", rights=Rights(models=("a", "b")))
        elsewhere.keys.restrict("laptop", lambda rights: Rights(models=rights.models[:1]))
        seconds[0] += 0.5
        key = state.keys.verify(secret.reveal())
        assert key is not None
        assert key.rights == Rights(models=("a",))


def test_an_unknown_key_is_reported_with_the_nearest_one_and_a_change_that_fails_changes_nothing(
    tmp_path: Path,
) -> None:
    with State(tmp_path / "home" / "state.db") as state:
        state.keys.create("laptop", rights=Rights(pin="work"))
        with pytest.raises(UnknownName, match="did you mean 'laptop'"):
            state.keys.restrict("laptpo", lambda rights: rights)
        with pytest.raises(UnknownName, match="did you mean 'laptop'"):
            state.keys.get("laptpo")

        def fail(_: Rights) -> Rights:
            raise UsageError("no")

        with pytest.raises(UsageError):
            state.keys.restrict("laptop", fail)
        assert state.keys.get("laptop").rights == Rights(pin="work")
