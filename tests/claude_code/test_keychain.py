"""With a stand-in for macOS's `security`; the real one was not asked."""

import json
import sys
import textwrap
from pathlib import Path

import pytest

from claude_code.rig import ACCESS, document
from leaks import leaks, shows
from tokenferry.claude_code import ClaudeCodeHome, Keychain
from tokenferry.errors import ConfigError, StorageFailed, TryLater

STAND_IN = """
import json, os, re, shlex, sys, time
folder = os.path.dirname(os.path.abspath(__file__))
def path(name): return os.path.join(folder, name)
with open(path("calls"), "a") as calls: calls.write(json.dumps(sys.argv[1:]) + "\\n")
if os.path.exists(path("code")): sys.exit(int(open(path("code")).read()))
if os.path.exists(path("hang")): time.sleep(60)
if sys.argv[1] == "find-generic-password":
    account, service = sys.argv[3], sys.argv[5]
    try: value = open(path(f"{account}.{service}"), "rb").read()
    except FileNotFoundError: sys.exit(44)
    text = value.decode("latin-1")
    sys.stdout.write((text if re.fullmatch("[ -~]*", text) else value.hex()) + "\\n")
elif sys.argv[1] == "-i":
    line = sys.stdin.buffer.read()
    assert len(line) <= 4096 and line.endswith(b'"\\n'), "a line that the real one would cut"
    words = shlex.split(line.decode())
    assert words[:2] == ["add-generic-password", "-U"]
    given = dict(zip(words[2::2], words[3::2]))
    if not os.path.exists(path("deaf")):
        open(path(f"{given['-a']}.{given['-s']}"), "wb").write(bytes.fromhex(given["-X"]))
"""
SERVICE = "Claude Code-credentials"


class Security:
    """The stand-in, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.path = folder / "security"
        self.path.write_text(f"#!{sys.executable}\n{textwrap.dedent(STAND_IN)}")
        self.path.chmod(0o700)

    def keep(self, content: bytes, service: str = SERVICE) -> None:
        (self.folder / f"me.{service}").write_bytes(content)

    def will(self, mishap: str, value: str = "") -> None:
        (self.folder / mishap).write_text(value)

    def calls(self) -> list[list[str]]:
        return [json.loads(call) for call in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def security(tmp_path: Path) -> Security:
    return Security(tmp_path / "security")


@pytest.fixture
def keychain(claude: ClaudeCodeHome, security: Security) -> Keychain:
    return Keychain(claude, "me", security=security.path)


def test_a_missing_item_is_none(keychain: Keychain) -> None:
    assert keychain.read() is None


@pytest.mark.parametrize("content", [document(), json.dumps({"é": 1}, ensure_ascii=False).encode()])
def test_an_item_is_read_as_it_is(keychain: Keychain, security: Security, content: bytes) -> None:
    security.keep(content)
    assert keychain.read() == content


def test_a_folder_of_its_own_has_an_item_of_its_own(security: Security) -> None:
    home = ClaudeCodeHome(Path("/a"), "/a")
    security.keep(b"{}", home.keychain_service)
    keychain = Keychain(home, "me", security=security.path)
    assert keychain.read() == b"{}"
    assert keychain.where == f'the Keychain item "{home.keychain_service}"'
    assert home.keychain_service != SERVICE


def test_what_is_written_is_read_again_and_never_stood_in_an_argument(keychain: Keychain, security: Security) -> None:
    keychain.write(document())
    assert keychain.read() == document()
    assert ["-i"] in security.calls()
    assert shows(str(security.calls()), ACCESS, ACCESS.encode().hex()) == []


def test_what_does_not_fit_is_refused_before_anything_is_asked(keychain: Keychain, security: Security) -> None:
    with pytest.raises(StorageFailed, match="run claude once") as caught:
        keychain.write(document(other="x" * 2000))
    assert leaks(caught.value, ACCESS) == []
    assert not (security.folder / "calls").exists()


def test_the_largest_that_fits_is_written_and_one_byte_more_is_not(keychain: Keychain) -> None:
    def fits(size: int) -> bool:
        try:
            keychain.check_writable(size)
        except StorageFailed:
            return False
        return True

    size = next(size for size in range(4096) if not fits(size))
    keychain.write(b"x" * (size - 1))
    with pytest.raises(StorageFailed):
        keychain.write(b"x" * size)


@pytest.mark.parametrize(("code", "words"), [("36", "is locked; unlock it with"), ("1", "ended with 1")])
def test_a_keychain_that_refuses_says_why(keychain: Keychain, security: Security, code: str, words: str) -> None:
    security.will("code", code)
    with pytest.raises(TryLater, match=words):
        keychain.read()


def test_a_keychain_that_hangs_is_left(claude: ClaudeCodeHome, security: Security) -> None:
    security.will("hang")
    keychain = Keychain(claude, "me", security=security.path, timeout=0.5)
    with pytest.raises(TryLater, match=r"no answer within 0\.5 seconds"):
        keychain.read()
    with pytest.raises(TryLater, match="no answer") as caught:
        keychain.write(document())
    assert leaks(caught.value, ACCESS, document().hex()) == []


def test_where_there_is_no_such_program(claude: ClaudeCodeHome, tmp_path: Path) -> None:
    with pytest.raises(TryLater, match="can't be run: No such file"):
        Keychain(claude, "me", security=tmp_path / "none").read()


@pytest.mark.parametrize("mishap", [("deaf", ""), ("code", "1")])
def test_a_write_that_came_to_nothing_is_an_error(
    keychain: Keychain, security: Security, mishap: tuple[str, str]
) -> None:
    security.will(*mishap)
    with pytest.raises((StorageFailed, TryLater)) as caught:
        keychain.write(document())
    assert leaks(caught.value, ACCESS, document().hex()) == []


@pytest.mark.parametrize("user", ["", 'a"b', "a b", "a\nb", "a\\"])
def test_a_user_that_would_break_the_line_is_refused(claude: ClaudeCodeHome, user: str) -> None:
    with pytest.raises(ConfigError, match="USER"):
        Keychain(claude, user)


def test_the_stamp_is_looked_at_every_ten_seconds_and_kept_while_it_is_locked(
    claude: ClaudeCodeHome, security: Security
) -> None:
    now = 100.0
    keychain = Keychain(claude, "me", security=security.path, monotonic=lambda: now)
    assert keychain.stamp() is None
    security.keep(b"{}")
    assert keychain.stamp() is None
    now += 10
    first = keychain.stamp()
    assert first is not None
    security.will("code", "36")
    now += 10
    assert keychain.stamp() == first
    (security.folder / "code").unlink()
    keychain.write(document())
    assert keychain.stamp() not in {None, first}
