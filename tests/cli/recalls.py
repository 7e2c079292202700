"""Asks for a token on the full path, or from the manifest."""

import contextlib
import io
from pathlib import Path

from cli.documents import settle
from tokenferry.cli import _home
from tokenferry.cli._run import run
from tokenferry.manifest import recall

Answer = tuple[int, str, str]


CONFIGURATIONS = {
    "none": "",
    "server": "[server]\nport = 1\n",
    "pool": '[pool]\nstrategy = "round-robin"\noverage = "avoid"\n',
    "provider": '[[providers]]\nname = "mine"\nprovider_type = "openai"\nbase_url = "https://mine.example"\n',
    "models": '[[models]]\nname = "fast"\nmappings = [{ provider = "sandbox", actual_model = "m" }]\n',
    "router": '[router]\ndefault = "fast"\nbackground = "fast"\n',
    "policy": '[policy]\nsubscriptions = "own-use"\n',
    "amended": '[[providers]]\nname = "sandbox"\nbase_url = "http://127.0.0.1:1"\n',
}


def full(*arguments: str) -> Answer:
    """What the full path answers; it may remember that."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["token", *arguments])
    _home.forget()
    return code, out.getvalue(), err.getvalue()


def known(*arguments: str) -> Answer | None:
    """What is known without the full path."""
    answer = recall(arguments)
    return None if answer is None else (0, *answer)


def learn(*arguments: str) -> Answer:
    """Take the full path, after which the answer is known."""
    assert known(*arguments) is None
    settle()
    answer = full(*arguments)
    assert answer[0] == 0, answer
    assert known(*arguments) == answer
    return answer


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path
