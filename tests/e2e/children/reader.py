"""A reader who follows the pages: runs shell blocks, one after the other, in one home, and says how each one ended.

It runs in a network of its own, where the documented ports are free. What a page can't say is here: the sandbox behind
every provider, a key to paste, somebody at the provider's pages, and another terminal for what runs until Ctrl-C.
"""

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final, TypeAlias

import httpx2
import pytest
import trustme

from cli.test_attach_profile import Profiles
from e2e.test_sealing import Session
from preforked import Preforked
from tokenferry.sandbox import DEFAULT_PORT, Sandbox

Running: TypeAlias = "subprocess.Popen[bytes]"
Hears: TypeAlias = Callable[[Running, str], object]

COMMAND: Final = str(Path(sys.executable).with_name("tokenferry"))
PATIENCE: Final = 120.0
GATEWAY: Final = ("127.0.0.1", 13456)
HOME: Final = Path(os.environ["HOME"])
CONFIG: Final = HOME / ".config/tokenferry/config.toml"
DATA: Final = HOME / ".local/share/tokenferry"
PERSONS: Final = {"console": "carol", "claude-max": "bob", "idp": "carol", "copilot": "alice", "sandbox": "carol"}
"""Who logs in where."""
LOGINS: Final = """auth_type = "oauth"
[providers.oauth]
client_id = "tokenferry"
authorization_endpoint = "{url}/oauth/authorize"
token_endpoint = "{url}/v1/oauth/token"
revocation_endpoint = "{url}/v1/oauth/token/revoke"
device_authorization_endpoint = "{url}/oauth/device_authorization"
authorize_parameters = {{ login_hint = "{person}" }}
redirect_uri = "{url}/oauth/code/callback"
api_key_url = "{url}/api/oauth/claude_cli/create_api_key"
profile_url = "{url}/api/oauth/profile"
"""
ISSUER: Final = """auth_type = "oauth"
[providers.oauth]
issuer = "{url}"
client_id = "tokenferry"
authorize_parameters = {{ login_hint = "{person}" }}
"""
EXCHANGE: Final = """wire_format = "openai"
auth_type = "oauth"
[providers.oauth]
client_id = "tokenferry"
device_authorization_endpoint = "{url}/login/device/code"
token_endpoint = "{url}/login/oauth/access_token"
token_body = "form"
[providers.token_exchange]
url = "{url}/copilot_internal/v2/token"
method = "GET"
headers = {{ authorization = "token {{token}}" }}
token_field = "token"
expiry_field = "expires_at"
"""
KEYS: Final = ("anthropic", "openrouter")
CLIENT: Final = """#!{python} -IS
import os, socket, sys
with socket.socket(socket.AF_UNIX) as terminal:
    terminal.connect({address!r})
    variables = (f"{{name}}={{value}}" for name, value in os.environ.items())
    text = "\\0".join([os.getcwd(), *variables, "", *sys.argv[1:]]).encode()
    socket.send_fds(terminal, [b"%8d" % len(text) + text], [0, 1, 2])
    os._exit(int(terminal.recv(8) or 70))
"""
PROGRAMS: Final = {
    "browser": 'rm -f "$HOME/jar"; exec curl -sS -L -c "$HOME/jar" -b "$HOME/jar" "$1"',
    "pass": 'echo "$KEY"',
    "ssh": 'exec sh -c "$2"',
    "systemctl": """case "$*" in *is-active*) echo active ;; *is-enabled*) echo enabled ;; esac""",
    "python": f'exec {sys.executable} "$@"',
} | {
    name: f'[ -t 0 ] || cat >/dev/null; echo "{name} has started"'
    for name in ("claude", "codex", "aider", "opencode", "loginctl")
}
"""What a reader has besides tokenferry, or what stands for it."""
ASKS: Final = """import anthropic
print(anthropic.Anthropic().messages.create(
    model="claude-sonnet-4-5", max_tokens=9, messages=[{"role": "user", "content": "Hello"}]).content)
"""


class Terminal:
    """Runs `tokenferry` for the shells, by a fork instead of a new interpreter, and answers what it asks."""

    def __init__(self, address: Path) -> None:
        self._listener = socket.create_server(str(address), family=socket.AF_UNIX)
        self._ongoing: list[Running] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def end_what_runs(self) -> None:
        """Type Ctrl-C in the other terminals."""
        while self._ongoing:
            process = self._ongoing.pop()
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                assert process.wait(PATIENCE) in {0, 130}, (process.args, process.returncode)

    def _serve(self) -> None:
        while True:
            there, _ = self._listener.accept()
            threading.Thread(target=self._answer, args=(there,), daemon=True).start()

    def _answer(self, there: socket.socket) -> None:
        length, streams, _, _ = socket.recv_fds(there, 8, 3)
        text = there.recv(int(length), socket.MSG_WAITALL).decode()
        shell, _, words = text.partition("\0\0")
        folder, *variables = shell.split("\0")
        with there:
            if os.path.samestat(os.fstat(streams[0]), (HOME / "pasted").stat()):
                # From its beginning: each command that asks for a credential is given one.
                name = next((one for one in ("setup-token", "copilot") if one in words), "pasted")
                os.dup2(opened := os.open(HOME / name, os.O_RDONLY), streams[0])
                os.close(opened)
            command = Command(words.split("\0"), folder, dict(one.split("=", 1) for one in variables), streams)
            there.send(b"%d" % self._run(command))
            for stream in streams:
                os.close(stream)

    def _run(self, command: "Command") -> int:
        words = command.words
        if words == ["sandbox"]:
            return 0  # it runs already
        if (words[0] in {"serve", "sandbox"} or words[:2] == ["refresh", "--watch"]) and "--detach" not in words:
            if words[0] == "serve" and is_open(GATEWAY):
                subprocess.run([COMMAND, "stop"], env=command.environment, stdout=subprocess.DEVNULL, check=True)
            process, code = command.begin_to_listen()
            self._ongoing.append(process)
            return code
        if "--no-browser" in words or "--device" in words or words == ["login", "--provider", "copilot"]:
            return command.run(subprocess.PIPE, at_the_provider(words))
        if words in (["setup"], ["policy", "set", "own-use"]) or (words[0] == "import" and "--dry-run" not in words):
            ours, terminal = pty.openpty()
            os.write(ours, b"y\n" * 20)
            try:
                return command.run(terminal)
            finally:
                os.close(ours)
                os.close(terminal)
        code = command.run()
        if code and "confirm with --yes" in "".join(command.said):
            command.words.append("--yes")
            code = command.run()
        return code


class Command:
    def __init__(self, words: list[str], folder: str, environment: Mapping[str, str], streams: list[int]) -> None:
        self.words, self.environment = words, environment
        self._folder, self._streams = folder, streams
        self.said: list[str] = []

    def run(self, stdin: int | None = None, *hears: Hears) -> int:
        process = self._begin(stdin)
        self._listen(process, process.stderr, *hears)
        return process.wait(PATIENCE)

    def begin_to_listen(self) -> tuple[Running, int]:
        """Start what runs until Ctrl-C; it goes on once it said a line that is not an error."""
        process = self._begin(stdout=subprocess.PIPE)
        self._streams = [*self._streams[:2], os.dup(self._streams[2])]  # the shell's are closed before it ends
        listening = threading.Event()

        def hear(_: Running, line: str) -> None:
            if "error:" not in line:
                listening.set()

        for stream in (process.stdout, process.stderr):
            threading.Thread(target=self._listen, args=(process, stream, hear), daemon=True).start()
        while not listening.wait(0.02) and process.poll() is None:
            pass
        return process, process.poll() or 0

    def _begin(self, stdin: int | None = None, stdout: int | None = None) -> Running:
        return Preforked(
            [COMMAND, *self.words],
            cwd=self._folder,
            env=self.environment,
            stdin=self._streams[0] if stdin is None else stdin,
            stdout=self._streams[1] if stdout is None else stdout,
            stderr=subprocess.PIPE,
        )

    def _listen(self, process: Running, stream: IO[bytes] | None, *hears: Hears) -> None:
        assert stream is not None
        for line in stream:
            self.said.append(line.decode())
            os.write(self._streams[2], line)
            for hear in hears:
                hear(process, self.said[-1])


def at_the_provider(words: list[str]) -> Hears:
    """What somebody does who hears the address of a provider's page."""
    done: list[str] = []

    def act(process: Running, line: str) -> None:
        if code := re.search(r"enter the code (\S+) there", line):
            codes.append(code[1])
        address = re.search(rf"http://127\.0\.0\.1:{DEFAULT_PORT}\S+", line)
        if done or not address:
            return
        done.append(line)
        with httpx2.Client(follow_redirects=True, trust_env=False, timeout=PATIENCE) as browser:
            if codes:
                given = {"user_code": codes[0], "account": person, "approve": "1"}
                browser.post(address[0], data=given).raise_for_status()
            else:
                page = browser.get(address[0]).raise_for_status().text
                code = re.search(r"<pre id=code>(.*?)</pre>", page)
                assert code, page
                assert process.stdin is not None
                process.stdin.write(f"{code[1]}\n".encode())
                process.stdin.flush()

    codes: list[str] = []
    person = PERSONS.get(words[words.index("--provider") + 1], "alice") if "--provider" in words else "alice"
    return act


class Reader:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        programs = HOME / "bin"
        for folder in (programs, HOME / "work", HOME / ".claude", CONFIG.parent):
            folder.mkdir(parents=True, mode=0o700)
        scripts = {name: f"#!/bin/sh\n{text}\n" for name, text in PROGRAMS.items()}
        scripts["tokenferry"] = CLIENT.format(python=sys.executable, address=str(HOME / "terminal"))
        for name, text in scripts.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o700)
        self._keeps = False
        """Whether the accounts of a page's blocks stay, for later ones of it."""
        (HOME / "setup-token").write_text(f"{sandbox.setup_token('bob')}\n")
        long_lived = sandbox.issue("alice", kind="long-lived")
        (HOME / "copilot").write_text(f"{next(iter(long_lived.values()))}\n")
        self._terminal = Terminal(HOME / "terminal")
        apart = {"XDG_DATA_HOME", "XDG_CONFIG_HOME"}  # the keyring's
        self._environment = {name: value for name, value in os.environ.items() if name not in apart} | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "BROWSER": str(programs / "browser"),
            "EDITOR": "true",
            "KEY": sandbox.api_key("dave"),
            "DEEPSEEK_API_KEY": "sk-deepseek-fake",
        }
        url = sandbox.url
        self._config = "".join(f'[[providers]]\nname = "{name}"\nbase_url = "{url}"\n' for name in KEYS)
        for name, person in PERSONS.items():
            logins = {"copilot": EXCHANGE, "idp": ISSUER}.get(name, LOGINS)
            self._config += f'[[providers]]\nname = "{name}"\nbase_url = "{url}"\n'
            self._config += logins.format(url=url, person=person)

    def open(self, page: str) -> None:
        """Begin a page with the configuration and the accounts that pages take for granted."""
        self._keeps = page == "README.md"
        self._environment.pop("ANTHROPIC_API_KEY", None)  # `doctor` complains of it
        if page == "api.md":
            self._environment["ANTHROPIC_API_KEY"] = self._environment["KEY"]
        self._configure()
        self._lay_out()
        self._forget(*self._accounts())
        self._sandbox.clear()
        self._sandbox.settings(limits=None)
        if not self._keeps:
            self._prepare()
            self._shell("tokenferry use key --default-provider")

    def run(self, text: str) -> tuple[int, str]:
        """Run a block, and put back what it took away; its exit code, and what it said."""
        self._make_room(text)
        try:
            done = self._shell(text)
        except subprocess.TimeoutExpired as late:
            done = (70, f"{late}: {(HOME / 'said').read_text()}")
        self._terminal.end_what_runs()
        if "server.port" in text or not CONFIG.exists():
            self._configure()
        if re.search("account|claude-code|log(in|out)|import|serve|stop|rm|mv", text):
            self._prepare()
        return done

    def _make_room(self, text: str) -> None:
        """A block's accounts and keys are new, as they are to whoever reads its page alone."""
        self._forget(*re.findall(r"^[^#\n]*(?:account add|attach|provider add|--name) ([\w.-]+)", text, re.MULTILINE))
        for name in re.findall(r"key (?:create|rename \w+) ([\w-]+)", text):
            self._shell(f"tokenferry key revoke {name}")
        preparations: dict[str, Callable[[], object]] = {
            "claude-code attach": self._detach,
            "refresh mine": lambda: self._log_claude_in(expires_in=-60),
            "switch --next": self._subscribe_twice,
            "anthropic-profile": self._make_profiles,
            "setup claude-code --undo": lambda: self._shell("tokenferry setup claude-code --yes"),
            "config init": CONFIG.unlink,
        }
        for words, prepare in preparations.items():
            if words in text:
                prepare()

    def _detach(self) -> None:
        self._forget(*(name for name, (owner, _) in self._accounts().items() if owner == "claude-code"))

    def _subscribe_twice(self) -> None:
        for name in ("home", "spare"):
            self._add(name, "claude-max", "bob")
        self._shell("tokenferry policy set own-use")

    def _make_profiles(self) -> None:
        """In place of those that earlier pages published."""
        for name in ("work", "default", "tokenferry"):
            self._shell(f"tokenferry profile unpublish --profile {name}")
        shutil.rmtree(HOME / ".config/anthropic", ignore_errors=True)
        for name in ("default", "work"):
            Profiles(HOME / ".config/anthropic", self._sandbox).write(name)

    def _lay_out(self) -> None:
        """The files that pages name."""
        shutil.rmtree(HOME / "work", ignore_errors=True)
        (HOME / "work").mkdir(mode=0o700)
        authority = trustme.CA()
        certificate = authority.issue_cert("gateway.local")
        certificate.cert_chain_pems[0].write_to_path(str(HOME / "work/gateway.pem"))
        certificate.private_key_pem.write_to_path(str(HOME / "work/gateway.key"))
        (HOME / "work/gateway.key").chmod(0o600)
        (HOME / "work/answer.http").write_text("HTTP/1.1 429 Too Many Requests\nretry-after: 60\n\n{}")
        (HOME / "work/my_program.py").write_text(ASKS)
        (HOME / "work/script.py").write_text("print('a script has run')\n")
        (HOME / "work/request.json").write_text('{"model": "claude-haiku-4-5", "max_tokens": 9, "messages": []}')

    def _configure(self) -> None:
        CONFIG.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        CONFIG.write_text(self._config)
        CONFIG.chmod(0o600)

    def _accounts(self) -> dict[str, tuple[str, str]]:
        """The owner and the kind of each that is stored."""
        code, said = self._shell("tokenferry account list --json 2>/dev/null")
        assert code == 0, said
        stored = (one for one in json.loads(said) if not one["name"].isupper())  # not those of variables
        return {one["name"]: (one.get("owner", ""), one.get("kind", "")) for one in stored}

    def _forget(self, *names: str) -> None:
        if names and (gone := set(names) & set(self._accounts())):
            code, said = self._shell("; ".join(f"tokenferry account remove {name} --yes" for name in gone))
            assert code == 0, said

    def _add(self, name: str, provider: str, person: str) -> None:
        self._forget(name)
        code, said = self._shell(
            f"tokenferry account add {name} --provider {provider}", json.dumps(self._sandbox.issue(person))
        )
        assert code == 0, said

    def _prepare(self) -> None:
        """What an earlier block took away is there again."""
        if not self._keeps:
            accounts = self._accounts()
            if "key" not in accounts:
                self._shell("tokenferry account add key --provider anthropic")
            if accounts.get("work") != ("tokenferry", "oauth"):
                self._add("work", "sandbox", "carol")
        if not is_open(GATEWAY):
            self._shell("tokenferry serve --detach")
        for name, text in {
            "login.json": json.dumps(self._sandbox.issue("carol")),
            "identity-token": self._sandbox.identity_token("carol"),
        }.items():
            (HOME / "work" / name).write_text(text)
            (HOME / "work" / name).chmod(0o600)
        self._log_claude_in()

    def _log_claude_in(self, *, expires_in: int | None = None) -> None:
        login = self._sandbox.issue("bob", expires_in=expires_in)
        kept = {
            "accessToken": login["access_token"],
            "refreshToken": login["refresh_token"],
            "expiresAt": int(login["expires_at"]) * 1000,
            "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
        }
        file = HOME / ".claude/.credentials.json"
        file.write_text(json.dumps({"claudeAiOauth": kept}))
        file.chmod(0o600)

    def _shell(self, text: str, stdin: str | None = None) -> tuple[int, str]:
        said = HOME / "said"  # no pipe, for what goes on would hold it open; a new file, for it may still write
        said.unlink(missing_ok=True)
        (HOME / "pasted").write_text(f"{self._environment['KEY']}\n" if stdin is None else stdin)
        with said.open("w") as output, (HOME / "pasted").open() as pasted:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                stdin=pasted,
                env=self._environment,
                cwd=HOME / "work",
                stdout=output,
                stderr=output,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        return done.returncode, said.read_text()


def is_open(address: tuple[str, int]) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(address) == 0


def bring_up_loopback() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))


def end_all() -> None:
    """Kill what still runs in this network, for instance a gateway that was started in the background."""
    network = Path("/proc/self/ns/net").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.name != str(os.getpid()) and (process / "ns/net").readlink() == network:
                os.kill(int(process.name), signal.SIGKILL)


def main() -> None:
    bring_up_loopback()
    keyring = HOME / "keyring"
    keyring.mkdir()
    with (
        contextlib.ExitStack() as at_the_end,
        pytest.MonkeyPatch.context() as patch,
        Session(keyring).running(patch),
        Sandbox(port=DEFAULT_PORT) as sandbox,
    ):
        at_the_end.callback(end_all)
        sandbox.settings(device_interval=0)
        reader = Reader(sandbox)
        page = None
        for line in sys.stdin:
            block = json.loads(line)
            if block["page"] != page:
                page = block["page"]
                reader.open(page)
            began = time.monotonic()
            code, said = reader.run(block["text"])
            report = {"code": code, "said": said, "seconds": time.monotonic() - began}
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()
        reader.run("tokenferry stop")


if __name__ == "__main__":
    main()
