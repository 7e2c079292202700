"""Each tool's settings files: written, read by another parser, and taken back, whatever was in them."""

import json
import os
import re
import stat
import tomllib
from codecs import BOM_UTF8
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.clients import (
    CLIENT_FORMATS,
    PRINTED_TOOLS,
    SERVED,
    TOOLS,
    ClientSetup,
    GatewayAccess,
    SettingsFile,
    ToolFile,
    check_served,
    started,
)
from tokenferry.errors import CorruptFile, StorageFailed, UnsafeFile, UsageError
from tokenferry.settings import Home

KEY: Final = "tfk_" + "k" * 43
ACCESS: Final = GatewayAccess(
    "http://127.0.0.1:13456", ("/opt/bin/tokenferry", "token", "--gateway"), Path("/home/me/local.key"), KEY
)
FILES: Final = [(tool, number) for tool in TOOLS for number in range(len(TOOLS[tool].files({}, Path("/p"), ACCESS)))]
COMMENT: Final = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
COMMENTS: Final = ("// a, } note", "/* x */", "// {", "// end", "# a = 1", "# note", "# first", "# keys")
LAST_COMMA: Final = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])')


def parsed(file: ToolFile, text: str) -> Any:
    """What the tool understands, by a parser that is not the one under test."""
    if file.path.suffix == ".toml":
        return tomllib.loads(text)
    if file.path.name == ".env":
        lines = [line.removeprefix("export ") for line in text.splitlines() if "=" in line and line[0] != "#"]
        return {name.strip(): value.strip().strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
    plain = COMMENT.sub(lambda found: found[1] or "", text)
    return json.loads(LAST_COMMA.sub(lambda found: found[1] or "", plain)) if plain.strip() else {}


def value_at(values: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def without(values: Any, keys: tuple[str, ...]) -> Any:
    """The values without this one, and without the sections that are empty then."""
    if keys[0] not in values:
        return values
    rest = {key: value for key, value in values.items() if key != keys[0]}
    if len(keys) > 1 and (inner := without(values[keys[0]], keys[1:])):
        rest[keys[0]] = inner
    return rest


@dataclass
class Setup:
    """A tool's file in a folder of its own."""

    file: ToolFile
    home: Home
    name: str

    @property
    def setup(self) -> ClientSetup:
        title = TOOLS[self.name].title
        return ClientSetup(SettingsFile.at(self.file.path, self.file.syntax, title), self.home, self.name)

    def do(self) -> str:
        setup = self.setup
        plan = setup.plan(self.file.wanted)
        shown = "\n".join(plan.diff())
        setup.carry_out(plan)
        assert KEY not in shown
        return shown

    def undo(self) -> tuple[tuple[str, ...], str]:
        setup = self.setup
        plan = setup.plan_undo()
        assert KEY not in "\n".join(plan.diff())
        setup.carry_out(plan)
        return plan.left, plan.note

    def check_done(self) -> Any:
        values = parsed(self.file, self.file.path.read_text("utf-8-sig"))
        for keys, value in self.file.wanted.items():
            assert value_at(values, keys) == value
            values = without(values, keys)
        return values


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory, home: Home) -> Callable[[str, int], Setup]:
    def make(name: str, number: int) -> Setup:
        person = tmp_path_factory.mktemp("person")
        return Setup(TOOLS[name].files({}, person, ACCESS)[number], home, name)

    return make


names = st.text("abcdefgh_", min_size=1, max_size=6)
words = st.text("abc 'é#/\\,}{*", max_size=8)
blanks = st.sampled_from(["", " ", "  ", "\t"])


@st.composite
def jsonc(draw: st.DrawFn, *, comments: bool) -> str:
    """An object as people write it: odd blanks, and with `comments` also comments and last commas."""
    ends = ["\n"] if not comments else ["\n", " // a, } note\n", " /* x */\n", "\n// {\n"]

    def block(depth: int) -> str:
        keys = draw(st.lists(names, max_size=3, unique=True))
        if depth == 0 and draw(st.booleans()):
            keys.append(draw(st.sampled_from(["env", "provider", "security", "apiKeyHelper"])))
        lines = []
        for place, key in enumerate(dict.fromkeys(keys)):
            is_section = key in {"env", "provider", "security"} or (depth < 2 and draw(st.integers(0, 3)) == 0)
            value = block(depth + 1) if is_section else json.dumps(draw(st.one_of(words, st.integers(), st.none())))
            comma = "," if place < len(keys) - 1 or (comments and draw(st.booleans())) else ""
            indent = "  " * (depth + 1) + draw(blanks)
            lines.append(
                f"{indent}{json.dumps(key)}{draw(blanks)}:{draw(blanks)}{value}{comma}{draw(st.sampled_from(ends))}"
            )
        if not lines:
            return draw(st.sampled_from(["{}", "{ }"]))
        return "{" + draw(st.sampled_from(ends)) + "".join(lines) + "  " * depth + "}"

    tail = draw(st.sampled_from(["", "\n", "\n\n", *(["\n// end"] if comments else [])]))
    return block(0) + tail


@st.composite
def toml(draw: st.DrawFn) -> str:
    ends = st.sampled_from(["\n", "  # a = 1\n", "\n\n", "\n# note\n"])

    def lines(keys: list[str]) -> str:
        values = st.one_of(words.map(json.dumps), st.integers().map(str), st.just('["a",\n  "b"]'), st.just("true"))
        return "".join(f"{draw(blanks)}{key} {draw(blanks)}= {draw(values)}{draw(ends)}" for key in keys)

    top = draw(st.lists(names, max_size=3, unique=True))
    if draw(st.booleans()):
        top.append("model_provider")
    text = draw(st.sampled_from(["", "# first\n", "\n"])) + lines(top)
    tables = draw(st.lists(names.filter(lambda name: name not in top), max_size=3, unique=True))
    for table in tables:
        text += f"[{table}]{draw(ends)}" + lines(draw(st.lists(names, max_size=2, unique=True)))
    for provider in draw(st.lists(st.sampled_from(["tokenferry", "azure"]), max_size=2, unique=True)):
        text += f'[model_providers.{provider}]{draw(ends)}name = "x"{draw(ends)}'
    return text.removesuffix("\n") if draw(st.booleans()) else text


@st.composite
def dotenv(draw: st.DrawFn) -> str:
    ours = st.sampled_from(["GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"])
    keys = draw(st.lists(st.one_of(names.map(str.upper), ours), max_size=4, unique=True))
    values = st.sampled_from(["x", '"a b"', "'q'", "", "https://x.example/y"])
    lines = [f"{draw(st.sampled_from(['', 'export ']))}{key}={draw(values)}" for key in keys]
    return "# keys\n" * draw(st.integers(0, 1)) + "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))


def text_of(file: ToolFile) -> st.SearchStrategy[str]:
    if file.path.suffix == ".toml":
        return toml()
    return dotenv() if file.path.name == ".env" else jsonc(comments=file.syntax.__name__ == "JsoncText")


@pytest.mark.parametrize(("name", "number"), FILES)
@given(data=st.data())
@settings(max_examples=effort(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_in_a_file_stays_and_comes_back_byte_for_byte(
    make: Callable[[str, int], Setup], name: str, number: int, data: st.DataObject
) -> None:
    one = make(name, number)
    text = data.draw(text_of(one.file))
    ends, mark = data.draw(st.sampled_from(["\n", "\r\n"])), data.draw(st.sampled_from([b"", BOM_UTF8]))
    content = mark + text.replace("\n", ends).encode()
    one.file.path.parent.mkdir(parents=True)
    one.file.path.write_bytes(content)
    one.file.path.chmod(0o600)
    before = parsed(one.file, text)
    one.do()
    kept = one.check_done()
    for keys in one.file.wanted:
        before = without(before, keys)
    assert kept == before
    written = one.file.path.read_bytes()
    assert written.startswith(mark)
    assert (b"\r\n" in written) == (ends == "\r\n") or "\n" not in text.strip()
    for comment in COMMENTS:
        assert written.count(comment.encode()) == text.count(comment)
    assert one.do() == "", "a second time changes nothing"
    assert one.undo() == ((), "")
    assert one.file.path.read_bytes() == content


@pytest.mark.parametrize(("name", "number"), FILES)
@given(data=st.data())
@settings(max_examples=effort(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_another_change_our_settings_alone_are_taken_back(
    make: Callable[[str, int], Setup], name: str, number: int, data: st.DataObject
) -> None:
    one = make(name, number)
    text = data.draw(text_of(one.file))
    one.file.path.parent.mkdir(parents=True)
    one.file.path.write_text(text)
    one.file.path.chmod(0o600)
    before = parsed(one.file, text)
    one.do()
    added = one.file.syntax(one.file.path.read_text()).with_value(("ADDED",), one.file.syntax.encode("theirs"))
    one.file.path.write_text(added.text)
    left, note = one.undo()
    assert left == ()
    for comment in COMMENTS:
        assert one.file.path.read_text().count(comment) == text.count(comment)
    assert "was changed since the setup, so only tokenferry's settings are taken out" in note
    assert parsed(one.file, one.file.path.read_text()) == before | {"ADDED": "theirs"}


@pytest.mark.parametrize(("name", "number"), FILES)
def test_a_file_that_was_not_there_is_private_and_goes_with_its_folders(
    make: Callable[[str, int], Setup], name: str, number: int
) -> None:
    one = make(name, number)
    folder = one.file.path.parent
    one.do()
    assert one.check_done() == {}
    assert stat.S_IMODE(one.file.path.stat().st_mode) == 0o600
    assert one.undo() == ((), "")
    assert not folder.exists()
    one.do()
    (folder / "other").touch()
    one.undo()
    assert [path.name for path in folder.iterdir()] == ["other"], "what isn't ours keeps the folder"


@pytest.mark.parametrize(("name", "number"), FILES)
def test_a_link_stays_one_and_its_target_is_edited(
    make: Callable[[str, int], Setup], tmp_path: Path, name: str, number: int
) -> None:
    one = make(name, number)
    target = tmp_path / "dotfiles"
    target.write_text("")
    target.chmod(0o600)
    one.file.path.parent.mkdir(parents=True)
    one.file.path.symlink_to(target)
    one.do()
    assert one.file.path.is_symlink()
    one.check_done()
    one.undo()
    assert target.read_bytes() == b""


@pytest.mark.parametrize(("name", "number"), FILES)
def test_a_folder_that_can_not_be_written_to_loses_nothing(
    make: Callable[[str, int], Setup], monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    one = make(name, number)
    one.file.path.parent.mkdir(parents=True)
    one.file.path.write_text("")
    one.file.path.chmod(0o600)
    plan = one.setup.plan(one.file.wanted)
    real = os.open

    def read_only(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT and Path(path).parent == one.file.path.parent:
            raise OSError(30, "Read-only file system")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(StorageFailed, match="Read-only file system"):
        one.setup.carry_out(plan)
    assert one.file.path.read_bytes() == b""
    assert not one.setup.is_done


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_no_key_is_written_where_others_read(make: Callable[[str, int], Setup], mode: int) -> None:
    one = make("gemini-cli", 1)
    assert one.file.holds_key
    one.file.path.parent.mkdir(parents=True)
    one.file.path.write_text("")
    one.file.path.chmod(mode)
    with pytest.raises(UnsafeFile, match="chmod 0600"):
        one.setup.file.check_private()


def test_the_key_itself_is_in_no_file_but_one_that_says_so() -> None:
    for tool in TOOLS.values():
        for file in tool.files({}, Path("/p"), ACCESS):
            assert (KEY in file.lines()) == file.holds_key


@pytest.mark.parametrize(
    ("name", "variables", "place"),
    [
        ("claude-code", {}, ".claude/settings.json"),
        ("claude-code", {"CLAUDE_CONFIG_DIR": "/x"}, "/x/settings.json"),
        ("codex", {}, ".codex/config.toml"),
        ("codex", {"CODEX_HOME": "/x"}, "/x/config.toml"),
        ("opencode", {}, ".config/opencode/opencode.json"),
        ("opencode", {"XDG_CONFIG_HOME": "/x"}, "/x/opencode/opencode.json"),
        ("gemini-cli", {}, ".gemini/settings.json"),
        ("gemini-cli", {"GEMINI_CLI_HOME": "/x"}, "/x/.gemini/settings.json"),
    ],
)
def test_each_tool_keeps_its_settings_where_its_variables_say(
    tmp_path: Path, name: str, variables: dict[str, str], place: str
) -> None:
    assert TOOLS[name].files(variables, tmp_path, ACCESS)[0].path == tmp_path / place


def test_opencodes_file_with_comments_in_its_name_goes_first(tmp_path: Path) -> None:
    path = tmp_path / ".config/opencode/opencode.jsonc"
    path.parent.mkdir(parents=True)
    path.touch()
    assert TOOLS["opencode"].files({}, tmp_path, ACCESS)[0].path == path


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('model_provider = "x\n', "line 1"),
        ("model_providers = 3\n", "must be a table"),
        ("a = 1\na = 2\n", "line 2"),
    ],
)
def test_toml_that_has_no_place_for_it_is_refused(make: Callable[[str, int], Setup], text: str, fault: str) -> None:
    one = make("codex", 0)
    one.file.path.parent.mkdir()
    one.file.path.write_text(text)
    with pytest.raises(CorruptFile, match=fault):
        one.do()
    assert one.file.path.read_text() == text


def test_a_tool_of_a_format_that_is_not_served_is_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CLIENT_FORMATS.keys() == SERVED
    monkeypatch.setattr("tokenferry.clients._tools.SERVED", frozenset(("anthropic", "openai")))
    assert check_served("x", "gemini", "openai", "anthropic") == "openai"
    with pytest.raises(UsageError, match=r"Gemini CLI speaks the format Gemini, .* nothing was written"):
        check_served("Gemini CLI", "gemini")


def test_a_program_that_reads_no_variables_is_led_to_the_gateway_by_arguments() -> None:
    """Codex's settings say the same, but for the key: that is in a variable here."""
    path = "/opt/bin/codex"
    command = started([path, "exec", "hi"], ACCESS.url)
    assert (command[0], command[-2:]) == (path, ["exec", "hi"])
    assert command[1:-2:2] == ["-c"] * ((len(command) - 3) // 2)
    reported = tomllib.loads("\n".join(command[2:-2:2]))
    assert reported["model_providers"]["tokenferry"].pop("env_key") == "OPENAI_API_KEY"
    written = tomllib.loads(TOOLS["codex"].files({}, Path("/p"), ACCESS)[0].lines())
    assert written["model_providers"]["tokenferry"].pop("auth")
    assert reported == written
    assert started(["claude", "-p"], ACCESS.url) == ["claude", "-p"]


@pytest.mark.parametrize("name", PRINTED_TOOLS)
def test_the_lines_to_print_hold_the_address_and_no_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = PRINTED_TOOLS[name]
    assert tool.source.startswith("https://")
    monkeypatch.setattr("tokenferry.clients._tools.SERVED", frozenset(CLIENT_FORMATS))
    lines = "\n".join(tool.lines(ACCESS))
    assert ACCESS.url in lines
    assert KEY not in lines
    assert "{" not in lines or name in {"continue", "zed"}
