import json
import os
import stat
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leaks import leaks, shows
from tokenferry.clients import API_KEY_HELPER, BASE_URL, ClientSetup, JsonText, Keys, SettingsFile, SetupPlan
from tokenferry.errors import Conflict, CorruptFile, StorageFailed, UnsafeFile, UsageError
from tokenferry.settings import Home

HELPER: Final = "/usr/bin/tokenferry token --gateway"
URL: Final = "http://127.0.0.1:13456"
WANTED: Final[dict[Keys, str | None]] = {API_KEY_HELPER: HELPER, BASE_URL: URL}
SECRET: Final = "sk-ant-api03-of-an-older-setup-0123456789"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "claude" / "settings.json"


@pytest.fixture
def tool(path: Path, home: Home) -> ClientSetup:
    return setup_of(path, home)


def setup_of(path: Path, home: Home) -> ClientSetup:
    return ClientSetup(SettingsFile.at(path, JsonText, "Claude Code"), home, "claude-code")


def put(path: Path, text: str, mode: int = 0o644) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    path.chmod(mode)
    return text


def set_up(tool: ClientSetup, wanted: dict[Keys, str | None] | None = None) -> SetupPlan:
    plan = tool.plan(wanted or WANTED)
    tool.carry_out(plan)
    return plan


def undo(tool: ClientSetup) -> tuple[str, ...]:
    plan = tool.plan_undo()
    tool.carry_out(plan)
    return plan.left


def records(home: Home) -> list[Path]:
    return list(home.setup.glob("*")) if home.setup.exists() else []


def test_a_file_that_is_missing_is_made_private_and_undone_without_a_trace(
    tool: ClientSetup, path: Path, home: Home
) -> None:
    set_up(tool)
    assert json.loads(path.read_text()) == {"apiKeyHelper": HELPER, "env": {"ANTHROPIC_BASE_URL": URL}}
    assert path.read_text().endswith("}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert undo(tool) == ()
    assert not path.parent.exists(), "the folder was made for it"
    assert records(home) == []


BEFORE: Final = """{
    "$schema": "https://example.invalid/settings.json",
    "permissions": {"allow": ["Bash(ls:*)"],   "deny": []},
    "apiKeyHelper": "echo SECRET",
    "env": {
        "DISABLE_TELEMETRY": "1",
        "ANTHROPIC_BASE_URL": "https://user:SECRET@gateway.example",
        "OTHER": "\\u00e9"
    },
    "unknown": [1.50, 1e3, null]
}
""".replace("SECRET", SECRET)


def test_everything_else_stays_as_it_is_and_undo_gives_it_back_byte_for_byte(
    tool: ClientSetup, path: Path, home: Home
) -> None:
    put(path, BEFORE, 0o664)
    set_up(tool)
    expected = BEFORE.replace(f"echo {SECRET}", HELPER).replace(f"https://user:{SECRET}@gateway.example", URL)
    assert path.read_text() == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    (record,) = records(home)
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert SECRET in record.read_text()
    assert undo(tool) == ()
    assert path.read_text() == BEFORE
    assert records(home) == []


def test_a_byte_order_mark_stays_in_its_place(tool: ClientSetup, path: Path) -> None:
    put(path, "\ufeff" + BEFORE)
    set_up(tool)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf{")
    assert json.loads(path.read_bytes())["apiKeyHelper"] == HELPER
    assert undo(tool) == ()
    assert path.read_bytes() == ("\ufeff" + BEFORE).encode()


def test_a_second_time_changes_nothing_and_forgets_nothing(tool: ClientSetup, path: Path) -> None:
    put(path, BEFORE)
    set_up(tool)
    before = path.stat()
    assert not set_up(tool).changes_something
    assert path.stat() == before
    set_up(tool, {API_KEY_HELPER: HELPER, BASE_URL: "http://127.0.0.1:2"})
    assert "127.0.0.1:2" in path.read_text()
    assert undo(tool) == ()
    assert path.read_text() == BEFORE


def test_undo_leaves_what_was_changed_since_and_says_so(tool: ClientSetup, path: Path, home: Home) -> None:
    put(path, BEFORE)
    set_up(tool)
    put(path, path.read_text().replace(URL, "https://another.example"))
    assert undo(tool) == ("env.ANTHROPIC_BASE_URL was changed since, so it is left as it is",)
    now = json.loads(path.read_text())
    assert (now["apiKeyHelper"], now["env"]["ANTHROPIC_BASE_URL"]) == (f"echo {SECRET}", "https://another.example")
    assert SECRET in records(home)[0].read_text(), "what stood there isn't lost"
    assert undo(tool) != ()
    # Set up again, it is the present value that comes back.
    put(path, path.read_text())
    set_up(tool)
    assert undo(tool) == ()
    assert json.loads(path.read_text()) == now


def test_a_setting_added_to_our_section_keeps_the_section(tool: ClientSetup, path: Path) -> None:
    set_up(tool)
    added = json.loads(path.read_text())
    added["env"]["A"] = "1"
    put(path, json.dumps(added))
    assert undo(tool) == ()
    assert json.loads(path.read_text()) == {"env": {"A": "1"}}


def test_settings_restored_by_hand_count_as_restored(tool: ClientSetup, path: Path) -> None:
    put(path, BEFORE)
    set_up(tool)
    put(path, BEFORE)
    assert undo(tool) == ()
    assert path.read_text() == BEFORE


def test_a_removed_file_is_not_created_again(tool: ClientSetup, path: Path) -> None:
    put(path, "{}")
    set_up(tool)
    path.unlink()
    assert undo(tool) == ()
    assert not path.exists()


def test_nothing_on_record_is_said(tool: ClientSetup, path: Path) -> None:
    with pytest.raises(UsageError, match="no record of a setup"):
        tool.plan_undo()


def test_a_setting_that_must_not_be_there_is_taken_out_and_comes_back(tool: ClientSetup, path: Path) -> None:
    put(path, BEFORE)
    set_up(tool, {API_KEY_HELPER: HELPER, BASE_URL: None})
    assert "ANTHROPIC_BASE_URL" not in json.loads(path.read_text())["env"]
    assert undo(tool) == ()
    assert json.loads(path.read_text()) == json.loads(BEFORE)


def test_a_link_is_followed_and_stays_a_link(home: Home, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "dotfiles" / "claude.json"
    put(target, BEFORE)
    path.parent.mkdir()
    path.symlink_to(Path("..") / "dotfiles" / "claude.json")
    tool = setup_of(path, home)
    set_up(tool)
    assert path.is_symlink()
    assert HELPER in target.read_text()
    # The same file by its own name is the same setup.
    assert undo(setup_of(target, home)) == ()
    assert target.read_text() == BEFORE


def test_a_link_that_leads_nowhere_is_refused(home: Home, path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to("nothing")
    with pytest.raises(UnsafeFile, match="leads nowhere"):
        setup_of(path, home)


@pytest.mark.parametrize("what", ["folder", "fifo", "anybody", "latin-1", "huge"])
def test_what_is_no_settings_file_is_refused(tool: ClientSetup, path: Path, what: str) -> None:
    path.parent.mkdir()
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "latin-1":
        path.write_bytes(b'{"a": "\xe9"}')
    else:
        put(path, " " * 5_000_000 if what == "huge" else "{}", 0o646)
        path.chmod(0o644 if what == "huge" else 0o646)
    with pytest.raises((UnsafeFile, CorruptFile)) as caught:
        tool.plan(WANTED)
    assert str(path) in str(caught.value)


def test_comments_are_refused_with_their_line_and_nothing_is_written(tool: ClientSetup, path: Path, home: Home) -> None:
    text = put(path, f'{{\n  "apiKeyHelper": "echo {SECRET}", // mine\n}}')
    with pytest.raises(CorruptFile, match=r"line 2: .* without comments") as caught:
        tool.plan(WANTED)
    assert not leaks(caught.value, SECRET)
    assert path.read_text() == text
    assert records(home) == []


def test_a_section_that_is_no_object_is_refused(tool: ClientSetup, path: Path) -> None:
    put(path, '{"env": "x"}')
    with pytest.raises(CorruptFile, match='"env" must be an object'):
        tool.plan(WANTED)


def test_what_was_changed_between_showing_and_writing_is_not_written_over(tool: ClientSetup, path: Path) -> None:
    put(path, BEFORE)
    plan = tool.plan(WANTED)
    put(path, "{}")
    with pytest.raises(Conflict, match="changed by another program"):
        tool.carry_out(plan)
    assert path.read_text() == "{}"
    with pytest.raises(UsageError, match="no record"):
        tool.plan_undo()
    set_up(tool)
    first = tool.plan({API_KEY_HELPER: "other", BASE_URL: None})
    put(path, path.read_text() + "\n")
    with pytest.raises(Conflict):
        tool.carry_out(first)
    assert undo(tool) == (), "the record of the first setup is there still"
    assert json.loads(path.read_text()) == {}


def test_no_temporary_file_is_left_where_the_file_can_not_be_replaced(
    tool: ClientSetup, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(path, BEFORE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    plan = tool.plan(WANTED)
    monkeypatch.setattr(os, "fchmod", lambda *_: full())
    with pytest.raises(StorageFailed):
        tool.file.write(plan.after, expected=plan.before)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_text() == BEFORE


def test_a_record_that_can_not_be_understood_is_said(tool: ClientSetup, path: Path, home: Home) -> None:
    set_up(tool)
    (record,) = records(home)
    for text in (
        "{",
        '{"version": 2}',
        '{"version": 3, "replaced": []}',
        '{"version": 2, "replaced": [{"keys": ["a"]}]}',
    ):
        record.write_text(text)
        with pytest.raises(CorruptFile, match="can't be understood"):
            tool.plan_undo()


def test_the_change_is_shown_without_any_secret(tool: ClientSetup, path: Path) -> None:
    put(path, BEFORE)
    shown = "\n".join(tool.plan(WANTED).diff())
    assert not shows(shown, SECRET)
    assert f'+    "apiKeyHelper": "{HELPER}"' in shown
    assert '-        "ANTHROPIC_BASE_URL": "https://gateway.example"' in shown
    assert f'+        "ANTHROPIC_BASE_URL": "{URL}"' in shown
    set_up(tool)
    back = "\n".join(tool.plan_undo().diff())
    assert not shows(back, SECRET)
    assert f'-    "apiKeyHelper": "{HELPER}"' in back


def test_a_file_that_is_made_or_removed_comes_from_nothing_or_goes_there(tool: ClientSetup, path: Path) -> None:
    assert tool.plan(WANTED).diff()[:2] == ["--- /dev/null", f"+++ {path}"]
    set_up(tool)
    assert tool.plan_undo().diff()[:2] == [f"--- {path}", "+++ /dev/null"]


def test_no_plan_and_no_error_shows_a_secret(tool: ClientSetup, path: Path) -> None:
    put(path, BEFORE)
    plan = tool.plan(WANTED)
    assert not shows(repr(plan), SECRET)
    put(path, BEFORE + " ")
    with pytest.raises(Conflict) as caught:
        tool.carry_out(plan)
    assert not leaks(caught.value, SECRET)


secrets = st.from_regex(r"[a-z]{12,20}[0-9][A-Z0-9]{12,20}", fullmatch=True)


@given(secrets, st.sampled_from(["env", "hooks", "apiKeyHelper", "mcp", "statusLine"]))
@settings(suppress_health_check=list(HealthCheck))
def test_what_looks_like_a_secret_is_shown_nowhere_in_a_change(
    home: Home, tmp_path_factory: pytest.TempPathFactory, secret: str, section: str
) -> None:
    path = tmp_path_factory.mktemp("claude") / "settings.json"
    value: Any = secret if section == "apiKeyHelper" else {"A": f"curl -H 'X: {secret}' x", "b": [secret]}
    put(path, json.dumps({section: value}, indent=2))
    assert secret not in "\n".join(setup_of(path, home).plan(WANTED).diff())


documents = st.dictionaries(
    st.sampled_from(["a", "apiKeyHelper", "env", "b"]),
    st.one_of(
        st.just("text"),
        st.integers(),
        st.dictionaries(st.sampled_from(["A", "ANTHROPIC_BASE_URL"]), st.text(max_size=5), max_size=2),
    ),
).filter(lambda document: isinstance(document.get("env", {}), dict))
wishes = st.fixed_dictionaries(
    {
        API_KEY_HELPER: st.sampled_from([HELPER, "other", None]),
        BASE_URL: st.sampled_from([URL, "https://x.example", None]),
    }
)


@given(documents, st.sampled_from([None, 2, "\t"]), st.lists(wishes, min_size=1, max_size=3))
@settings(suppress_health_check=list(HealthCheck))
def test_however_often_it_is_set_up_one_undo_restores_the_beginning(
    home: Home,
    tmp_path_factory: pytest.TempPathFactory,
    document: dict[str, Any],
    indent: Any,
    wanted: list[dict[Keys, str | None]],
) -> None:
    path = tmp_path_factory.mktemp("claude") / "settings.json"
    put(path, json.dumps(document, indent=indent))
    tool = setup_of(path, home)
    for one in wanted:
        set_up(tool, one)
        now = json.loads(path.read_text())
        assert now.get("apiKeyHelper") == one[API_KEY_HELPER]
        assert now.get("env", {}).get("ANTHROPIC_BASE_URL") == one[BASE_URL]
    assert undo(tool) == ()
    assert json.loads(path.read_text()) == document


def test_a_record_of_the_first_version_is_undone(tool: ClientSetup, path: Path, home: Home) -> None:
    """It holds the settings alone: what was there before, and what was put there."""
    set_up(tool)
    (record,) = records(home)
    replaced = json.loads(record.read_text())["replaced"]
    record.write_text(json.dumps({"version": 1, "had_file": False, "had_env": False, "replaced": replaced}))
    assert undo(tool) == ()
    assert not path.exists()
