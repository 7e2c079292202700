import os
import signal
import subprocess
import sys
import time

import pytest

from cli.documents import ACCESS, document, put, settle
from cli.harness import COMMAND, Terminal, tokenferry
from tokenferry.settings import Home

SLOW = ("typing", "dataclasses", "pathlib", "typer", "rich", "tokenferry.broker", "tokenferry.config", "asyncio")


def test_a_known_token_is_served_before_anything_slow_is_imported(home: Home) -> None:
    put(home, document(time.time()))
    settle()
    assert tokenferry("token").out == f"{ACCESS}\n"
    script = (
        "import sys; sys.argv = ['tokenferry', 'token']\n"
        "from tokenferry.cli.entry import main\n"
        f"code = main(); print(code, [name for name in {SLOW} if name in sys.modules])"
    )
    # Without coverage and the site's own start-up files, which import what they like.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{ACCESS}\n0 []\n"


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["status"], ["account", "list"], ["token", "--json"], ["--home", "HOME", "account", "list"]),
        *(["account", "set", "work", "--priority", "7", "--label", "team=a"], ["usage", "daily", "--by", "key"]),
    ],
    ids=" ".join,
)
def test_a_short_command_imports_no_server_client_or_validator(home: Home, arguments: list[str]) -> None:
    put(home, document(time.time()))
    arguments = [str(home.path) if one == "HOME" else one for one in arguments]
    heavy = ["asyncio", "httptools", "httpx2", "jinja2", "keyring", "pydantic", "rich", "ssl", "starlette", "uvicorn"]
    heavy += ["email.utils", "importlib.resources", "tokenferry.wire.chat._codecs", "tokenferry.wire.responses._codecs"]
    most = 330
    if arguments == ["status"]:  # it is asked for often, and needs no parser of options
        heavy += ["dataclasses", "difflib", "shutil", "socket", "subprocess", "typer"]
        most = 255
    script = (
        f"import sys; from tokenferry.cli._run import run; code = run({arguments})\n"
        "ours = sum(name.startswith('tokenferry') for name in sys.modules)\n"
        f"brought = [name for name in {heavy} if name in sys.modules]\n"
        f"print(code, brought, ours <= {most})"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 [] True"


def test_the_module_is_the_command(home: Home) -> None:
    put(home, document(time.time()))
    done = subprocess.run([sys.executable, "-m", "tokenferry", "token"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ACCESS}\n", "")


def test_a_reader_who_has_gone_gets_no_words(home: Home) -> None:
    put(home, document(time.time()))
    for arguments in (["token"], ["account", "list"], ["--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([COMMAND, *arguments], stdout=writing, stderr=subprocess.PIPE, check=False)
        os.close(writing)
        assert (done.returncode, done.stderr) == (1, b""), arguments


def test_ctrl_c_at_a_prompt_ends_with_130_and_without_a_traceback(home: Home) -> None:
    terminal = Terminal("account", "add", "work", "--provider", "anthropic")
    terminal.wait_for("(not shown)")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown


def test_version(home: Home) -> None:
    outcome = tokenferry("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("tokenferry ")
