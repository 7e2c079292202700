"""Mistakes that people make: each gets one sentence with the cure and its exit code, and nothing is lost."""

import errno
import io
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from cli.harness import COMMAND, Outcome, Terminal, tokenferry
from namespaces import namespace
from tokenferry.settings import Home

Inside = Callable[..., Outcome]

KEY: Final = "sk-ant-api03-aaaaaaaaaaaaaaaa"
ON_A_SMALL_DISK: Final = (
    'mount -t tmpfs -o size=512k,mode=700 none "$1" && cp -a "$2/." "$1" && export TOKENFERRY_HOME="$1" && shift 2 && '
    '{ head -c 600000 /dev/zero > "$TOKENFERRY_HOME/filler" 2>/dev/null || true; } && "$@"; code=$?; '
    "ls accounts 2>/dev/null; exit $code"
)


class Full(io.StringIO):
    """As /dev/full."""

    def write(self, text: str, /) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def contents(home: Home) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in sorted(home.path.rglob("*.*")) if path.suffix in {".json", ".toml"}
    }


@pytest.fixture
def filled(home: Home, inside: Inside) -> Iterator[Home]:
    """A home with an account, a client key and a configuration, which no mistake changes."""
    tokenferry("account", "add", "work", "--provider", "anthropic", stdin=KEY)
    inside("key", "create", "anna")
    inside("config", "set", "server.port", "8080")
    before = contents(home)
    yield home
    assert contents(home) == before


MISTAKES: Final = [
    ("account show wrk", 4, "did you mean 'work'?"),
    ("account set work --priority high", 2, "'--priority': it must be a whole number"),
    ("account set work --label novalue", 2, "give NAME=VALUE"),
    ("key show ana", 4, "did you mean 'anna'?"),
    ("key create anna", 1, "tokenferry key revoke anna"),
    ("key create x --expires soon", 2, "such as 90d"),
    (f"key create x --expires {'9' * 400}d", 2, "such as 90d"),
    ("key create x --rpm inf", 2, "0 is no limit"),
    ("model add fast\udc80 anthropic/x", 2, "holds a byte that is not UTF-8"),
    ("explain request \udc80", 2, "holds a byte that is not UTF-8"),
    ("usage daily --json --csv", 2, "give one of them"),
    ("model add fast anthropik/x", 3, "names 'anthropik', which is not a provider"),
    ("model add fast justaname", 2, "write it as PROVIDER/MODEL"),
    ("provider show antropic", 4, "did you mean 'anthropic'?"),
    ("provider add zai", 4, "did you mean 'z.ai'?"),
    ("config set server.prot 1", 4, "did you mean server.port?"),
    ("config set server.port high", 3, "nothing was written"),
    ("config set server.port", 2, "give settings and values in turn"),
    ("config edit", 2, "tokenferry config set KEY VALUE"),
    ("serve --port 99999", 2, "'--port': it must be less than or equal to 65535"),
    ("serve --tls-cert nofile", 2, "need each other; give both"),
    ("explain response nofile", 2, "nofile can't be read"),
    ("usage daily --since yesterday", 2, "write it as 2026-11-01"),
    ("usage daily --timezone Mars/Base", 2, "like Europe/Berlin"),
    ("usage daily --by colour", 2, "give one of account, key, model"),
    ("policy set own", 7, "tokenferry policy set own-use"),
    ("cooldown clear wrk", 4, "did you mean 'work'?"),
    ("login --provider anthropic", 2, "tokenferry account add NAME --provider anthropic"),
    ("refresh work", 2, "tokenferry account check work"),
    ("export work --to envv x", 2, "did you mean 'env'?"),
    ("import nofile", 2, "name an existing file, or - for stdin"),
    ("profile unpublish nope", 4, "see: tokenferry profile list"),
    ("account remove work", 2, "confirm with --yes"),
    ("account list --jsn", 2, "did you mean --json?"),
    ("account show wrk --json", 4, "did you mean 'work'?"),
    ("account pause work --until nonsense", 2, "write 18:30, tomorrow, tomorrow 9:30"),
    ("account pause work --until 2020-01-01", 2, "give a later time"),
    ("account pause work --for 3h --until tomorrow", 2, "give one of them"),
    ("account pause work --for 3", 2, "such as 8h"),
    ("store init", 3, "tokenferry config set store.url"),
    ("store forget-host gone", 3, "tokenferry config set store.url"),
    ("store forget-host gone --yes", 3, "tokenferry config set store.url"),
    ("config set store.url postgresql://me:hunter2@db/x", 3, "name that with password_file"),
    ("setup gemini-cli --undo", 2, "nothing to undo"),
    ("help nonsense", 4, "all topics: tokenferry help"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[ascii(line[:60]) for line, _, _ in MISTAKES])
def test_one_sentence_names_the_cure(
    filled: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch, mistake: tuple[str, int, str]
) -> None:
    line, code, cure = mistake
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    outcome = inside(*line.split())
    assert cure in outcome.one_line()
    assert outcome.code == code
    assert "Traceback" not in outcome.err
    assert "defect" not in outcome.err


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"[server\nport = 1", "line 1, column"),
        (b'{"server": {"port": 1}}', "is not valid TOML"),
        (b"server:\n  port: 1\n", "is not valid TOML"),
        (b"\xff\xfe[server]\n", "byte order mark"),
        (b"\x00\x01\x02", "config.toml"),
        (b"server = 3\n", "line 1: server must be a table"),
    ],
)
def test_a_foreign_configuration_file_is_named_with_its_line(
    home: Home, inside: Inside, content: bytes, word: str
) -> None:
    home.config.write_bytes(content)
    home.config.chmod(0o600)
    outcome = inside("status")
    assert word in outcome.one_line()
    assert outcome.code == 3
    assert home.config.read_bytes() == content


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_are_named(
    home: Home, inside: Inside, tmp_path: Path
) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("")
    file.chmod(0o666)
    assert "is not a regular file; name a file" in inside("--config", str(folder), "status").one_line()
    outcome = inside("--home", str(file), "account", "list")
    assert (outcome.code, outcome.one_line()) == (
        8,
        f"{file} can't be opened: Not a directory; name a folder, or move it away",
    )
    (home.path / "accounts").mkdir(mode=0o700, parents=True)
    (home.path / "accounts" / "work.json").mkdir()
    assert "work" in inside("account", "list").out, "the others are listed, and this one is named"


READING: Final = [
    "status",
    "account list",
    "account show work",
    "account list --json",
    "key list",
    "key show anna",
    "provider list",
    "provider show anthropic",
    "usage daily --csv",
    "explain account work",
    "explain route --model x",
    "config show",
    "config schema",
    "config get server",
    "policy show",
    "encryption status",
    "token work",
    "help pool",
    "--version",
    "--help",
]


def test_a_full_disk_behind_stdout_is_a_sentence(filled: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in READING:
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", Full())
            outcome = inside(*line.split())
        assert outcome.code == 1, line
        assert "can't write to stdout (No space left on device)" in outcome.err.splitlines()[-1], line
        assert (outcome.out, "defect" in outcome.err) == ("", False), line


def test_a_key_that_could_not_be_shown_opens_nothing(
    home: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", Full())
        outcome = inside("key", "create", "lost")
    assert outcome.code == 1
    assert "client key lost could not be shown" in outcome.one_line()
    assert [one["state"] for one in inside("key", "list", "--json").json] == ["revoked"]


@pytest.mark.parametrize(
    ("closed", "line", "code", "words"),
    [
        (">&-", "token work", 1, "can't write to stdout (it is closed)"),
        (">&-", "key create lost", 1, "can't write to stdout (it is closed)"),
        (">/dev/full", "token work", 1, "can't write to stdout (No space left on device)"),
        ("2>&-", "account show wrk", 4, ""),
        (">/dev/full", "token work --json", 1, "can't write to stdout (No space left on device)"),
        (">/dev/full", "token wrk", 4, "did you mean 'work'?"),
        ("2>/dev/full", "account show wrk", 4, ""),
        (">/dev/full 2>&1", "token work", 1, ""),
        (">&- 2>/dev/full", "token work", 1, ""),
        ("<&-", "account add x --provider anthropic", 2, "stdin is closed; pipe the key or token in"),
        ("<&-", "account remove work", 2, "confirm with --yes"),
        ("<&-", "claude-code statusline", 0, ""),
    ],
)
def test_a_stream_that_is_closed_or_full_costs_a_sentence(
    filled: Home, closed: str, line: str, code: int, words: str
) -> None:
    # Unbuffered, the interpreter's end would have nothing left to flush.
    command = ["env", "-u", "PYTHONUNBUFFERED", "sh", "-c", f'exec "$0" "$@" {closed}', COMMAND, *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == (1 if words else 0)
    assert [one["name"] for one in tokenferry("key", "list", "--json").json] == ["anna"]


@pytest.mark.parametrize("typed", ["\n", "n\n", "\x04", ""], ids=["Enter", "n", "Ctrl-D", "Ctrl-C"])
def test_what_is_not_a_yes_removes_nothing(filled: Home, typed: str) -> None:
    terminal = Terminal("account", "remove", "work")
    terminal.wait_for("remove account work?")
    if typed:
        terminal.type(typed)
    else:
        os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == (1 if typed else 130)
    assert "Traceback" not in terminal.shown


def test_a_full_disk_loses_nothing(filled: Home, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    alone = namespace("-rm", "sh", "-c", ON_A_SMALL_DISK, "sh", str(small), str(filled.path))

    def on_small_disk(*arguments: str, stdin: str = "") -> Outcome:
        done = subprocess.run(
            [*alone, *arguments], input=stdin, capture_output=True, text=True, check=False, env=os.environ
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    for line in ("account add more --provider anthropic", "config set server.port 9", "key create another", "use work"):
        outcome = on_small_disk(COMMAND, *line.split(), stdin=KEY)
        assert outcome.code == 1, (line, outcome)
        assert "No space left" in outcome.err or "disk" in outcome.err, (line, outcome)
        assert "Traceback" not in outcome.err
        assert "defect" not in outcome.err
    shown = on_small_disk("sh", "-c", f"{COMMAND} use work 2>/dev/null; {COMMAND} token work")
    assert shown.out == f"{KEY}\n"


def test_two_commands_at_once_both_count(home: Home) -> None:
    adding = [
        subprocess.Popen(
            [COMMAND, "account", "add", name, "--provider", "anthropic"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("one", "two", "three")
    ]
    for process in adding:
        out, _ = process.communicate(KEY, timeout=60)
        assert process.returncode == 0, out
    assert {one["name"] for one in tokenferry("account", "list", "--json").json} == {"one", "two", "three"}
