"""docs/server.md: its commands in one home; the container and the unit as far as a machine without either can."""

import json
import os
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from e2e.parties import COMMAND, PATIENCE, SandboxProcess, lacking, program, running
from tokenferry.errors import CorruptFile
from tokenferry.state import State

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "server.md").read_text()
BLOCK: Final = re.compile(r"(?:^<!-- not run: .*\n\n)?((?:^ {4}.*\n)+)", re.MULTILINE)


def blocks(heading: str) -> list[str]:
    """The commands below a heading, without those that are marked as not run."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return [re.sub("^ {4}", "", one[1], flags=re.MULTILINE) for one in BLOCK.finditer(section) if "<!--" not in one[0]]


class Person:
    """A login shell of somebody whose home has the two folders of an installation without TOKENFERRY_HOME."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.config = home / ".config/tokenferry/config.toml"
        self.data = home / ".local/share/tokenferry"
        self.config.parent.mkdir(parents=True, mode=0o700)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.config.write_text(f'[server]\nport = {port}\n[[providers]]\nname = "sandbox"\nbase_url = "{url}"\n')
        self.config.chmod(0o600)
        unset = {"TOKENFERRY_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
        path = f"{Path(COMMAND).parent}:{os.environ['PATH']}"
        self.variables = {name: value for name, value in os.environ.items() if name not in unset}
        self.variables |= {"HOME": str(home), "PATH": path}

    def shell(self, text: str, *, stdin: str = "", code: int = 0) -> str:
        done = subprocess.run(
            ["sh", "-euc", text],
            input=stdin,
            env=self.variables,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    with running("sandbox", tmp_path) as server:
        provider = SandboxProcess(server.url)
        person = Person(tmp_path / "person", server.url)
        login = json.dumps(provider.issue("alice", expires_in=-60))
        person.shell("tokenferry account add work --provider sandbox", stdin=login)
        person.shell("tokenferry account add key --provider sandbox", stdin=provider.api_key())
        yield person
        person.shell("tokenferry stop || true")


def test_a_home_is_backed_up_lost_restored_upgraded_and_removed(person: Person) -> None:
    backup, restore = blocks("Back up and restore")
    person.shell("tokenferry serve --detach")
    person.shell(backup)
    assert oct((person.home / "tokenferry-backup.tgz").stat().st_mode & 0o777) == "0o600"
    documents = {path.name: path.read_bytes() for path in (person.data / "accounts").iterdir()}
    person.shell("tokenferry account remove key --yes || tokenferry logout key")
    person.shell(restore)
    assert {path.name: path.read_bytes() for path in (person.data / "accounts").iterdir()} == documents
    assert person.shell("tokenferry token work").startswith("sk-ant-oat")
    (upgrade,) = blocks("Upgrade")
    person.shell(upgrade)
    (report,) = blocks("Report a problem")
    person.shell(report)
    assert json.loads((person.home / "report.json").read_text())["accounts"][0]["state"] == "fresh"
    person.shell("tokenferry setup claude-code --yes")
    (removal,) = blocks("Uninstall")
    person.shell(removal)
    assert not person.data.exists()
    assert not person.config.exists()


def test_an_older_version_refuses_and_says_how_to_go_back(person: Person) -> None:
    """The page's second way back: the file that is named is moved away."""
    state, document = person.data / "state.db", person.data / "accounts" / "key.json"
    person.shell("tokenferry key create colleague")
    with closing(sqlite3.connect(state)) as connection:
        connection.execute("PRAGMA user_version = 900")
    content = state.read_bytes()
    said = person.shell("tokenferry key list", code=8)
    assert str(state) in said
    assert "tokenferry help server" in said
    assert state.read_bytes() == content
    with pytest.raises(CorruptFile, match="install that one again"):
        State(state)
    state.unlink()
    person.shell("tokenferry key list")
    document.write_bytes(document.read_bytes().replace(b'"version": 1', b'"version": 9'))
    assert "tokenferry help server" in person.shell("tokenferry token key", code=8)
    document.unlink()
    assert person.shell("tokenferry token work").startswith("sk-ant-oat")
    assert [one["name"] for one in json.loads(person.shell("tokenferry account list --json"))] == ["work"]


def instructions(name: str) -> list[tuple[str, str]]:
    """Each instruction with the rest of its line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "contrib" / name).read_text(), flags=re.MULTILINE)
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in text.splitlines() if line]


def isolated(script: str) -> "subprocess.Popen[str]":
    """Begin a shell script as root in mounts of its own, where what is mounted read-only stays so."""
    if os.getuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        lacking("root, and mounts of its own (unshare -m)")
    command = [program("unshare"), "-m", "--propagation", "private", "sh", "-euc", script]
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_")) or "PROXY" in name.upper()
    }
    return subprocess.Popen(command, env=kept | {"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": "/root"}, text=True)


PRIVILEGES: Final = (
    "setpriv --reuid {uid} --regid {uid} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
)


def served(steps: dict[str, str], serve: list[str], data: str, log: Path) -> list[str]:
    """Shell commands that start a gateway as the recipe's user, check its health and its rights, and end it."""
    uid, there = steps["USER"].partition(":")[0], f"/srv{data}"
    check = shlex.join(json.loads(steps["HEALTHCHECK"].partition("CMD ")[2]))
    return [
        f"mkdir -p {there}; chown {uid} {there}; chmod 700 {there}",
        f"export TOKENFERRY_HOME={there}",
        f"as='{PRIVILEGES.format(uid=uid)}'",
        "! $as touch /opt/x /usr/x /etc/x 2>/dev/null",
        "$as tokenferry key create team >/dev/null",
        f"$as {shlex.join(serve)} >{log} 2>&1 & gateway=$!",
        f"for turn in $(seq 200); do if $as {check} 2>/dev/null; then break; fi; sleep 0.1; done",
        f"$as {check}",
        "grep -q '^CapEff:.0*$' /proc/$gateway/status && grep -q '^NoNewPrivs:.1$' /proc/$gateway/status",
        "kill -TERM $gateway; wait $gateway",
    ]


def test_container_and_unit_serve_without_rights_on_a_read_only_system(tmp_path: Path) -> None:
    """The recipe's own steps install it; user, variables, commands and health check are used as they are written."""
    python = "/usr/bin/python3"
    fits = "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"
    if not Path(python).exists() or subprocess.run([python, "-c", fits], check=False).returncode:
        lacking("a Python 3.11 of the system, with ensurepip")
    recipe = instructions("Containerfile")
    install = [
        rest.replace("/src", "/mnt/src").replace("python3 ", f"{python} ") for word, rest in recipe if word == "RUN"
    ]
    steps = dict(recipe)
    variables = dict(pair.partition("=")[::2] for pair in shlex.split(steps["ENV"]))
    text = (ROOT / "contrib" / "tokenferry.service").read_text()
    unit = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    log, source = tmp_path / "log", tmp_path / "source.tar"
    subprocess.run(["git", "-C", ROOT, "archive", "-o", source, "HEAD"], check=True)  # before folders are hidden
    script = [
        "for folder in /opt /mnt /srv; do mount -t tmpfs -o mode=755 tmpfs $folder; done; mkdir /mnt/src",
        f"tar -x -C /mnt/src -f {source}",
        *install,
        "mount -o remount,ro /opt",
        "for one in /usr /etc /var /root /home; do mount --bind $one $one; mount -o remount,ro,bind $one; done",
        "cd /; unset PIP_CONFIG_FILE; export HOME=/nonexistent",
        f"export PATH={variables['PATH']} PYTHONDONTWRITEBYTECODE={variables['PYTHONDONTWRITEBYTECODE']}",
        *served(steps, json.loads(steps["ENTRYPOINT"]) + json.loads(steps["CMD"]), variables["TOKENFERRY_HOME"], log),
        *served(steps, shlex.split(unit["ExecStart"]), unit["Environment"].partition("=")[2], log),
    ]
    with isolated("\n".join(script)) as process:
        assert process.wait(300) == 0, log.read_text() if log.exists() else ""


def test_systemd_finds_the_unit_sound_and_its_exposure_small(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        lacking("systemd-analyze")
    unit = tmp_path / "tokenferry.service"
    text = (ROOT / "contrib" / "tokenferry.service").read_text()
    unit.write_text(text.replace("/opt/tokenferry/bin/tokenferry", COMMAND))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    limit = ["--offline=yes", "--threshold=15"]  # tenths; systemd calls up to 4 "OK"
    rated = subprocess.run(["systemd-analyze", "security", *limit, unit], capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout[-300:]
