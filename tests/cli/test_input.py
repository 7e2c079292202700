"""What is typed at a hidden prompt; the terminal is a real one, read in this process."""

import os
import pty
import tty
from collections.abc import Iterator

import pytest

from leaks import leaks
from tokenferry.cli import _input
from tokenferry.errors import UsageError

KEY = "sk-ant-api03-" + "Kk1_" * 24
TOKEN = "sk-ant-oat01-" + "Ab9-" * 24
ROUTER = "sk-or-v1-" + "0f" * 32


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Its two ends: what a person holds, and what a program reads."""
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)


def pasted(text: str, terminal: tuple[int, int]) -> bytes:
    person, program = terminal
    os.write(person, text.encode())
    return _input._joined(_input._pasted(program), "key")


def wrapped(text: str, width: int) -> str:
    return "\n".join(text[place : place + width] for place in range(0, len(text), width)) + "\n"


@pytest.mark.parametrize("secret", [KEY, TOKEN, ROUTER])
@pytest.mark.parametrize("width", [40, 60, 90, 1000])
def test_a_secret_that_a_terminal_wrapped_is_whole(secret: str, width: int, terminal: tuple[int, int]) -> None:
    assert pasted(wrapped(secret, width), terminal) == secret.encode()


@pytest.mark.parametrize("around", ["{}\n\n", "\n  {}  \n", "{}\r\n"])
def test_empty_lines_and_blanks_around_it_do_not_count(around: str, terminal: tuple[int, int]) -> None:
    person, program = terminal
    tty.setcbreak(program)  # so that an empty line doesn't end the reading before the rest is there
    os.write(person, around.format(KEY).encode())
    assert _input._joined(_input._pasted(program), "key") == KEY.encode()


@pytest.mark.parametrize(
    "text",
    [
        f"{KEY}\n{KEY}\n",
        f"{KEY}\nrm -rf build\n",
        "an-own-servers-key-that-\nis-of-no-known-shape\n",
        f"{TOKEN[:60]}\n{TOKEN[60:]}\n{KEY}\n",
        "sk-ant-admin01-abc\ndef\n",
    ],
)
def test_lines_that_are_not_certainly_one_secret_are_refused(text: str, terminal: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="without line breaks") as caught:
        pasted(text, terminal)
    assert not leaks(caught.value, KEY, TOKEN)


def test_a_login_may_be_an_object_of_many_lines(terminal: tuple[int, int]) -> None:
    text = '{\n  "access_token": "one",\n\n  "refresh_token": "two"\n}'
    assert pasted(text + "\n", terminal).split() == text.encode().split()


def test_a_line_that_a_terminal_cut_is_refused() -> None:
    with pytest.raises(UsageError, match="pipe the key in"):
        _input._joined([b"k" * 4095], "key")
