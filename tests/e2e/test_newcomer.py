"""From a fresh clone to Claude Code at work through the gateway, by the commands of README.md and docs/sandbox.md."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from e2e.conftest import Tell
from e2e.parties import MODULES, lacking, program

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).resolve().parents[2]
CLAUDE: Final = MODULES / "@anthropic-ai/claude-code-linux-x64/claude"
QUIET: Final = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1"}
# A network of its own, for the documented ports may be taken in the machine's.
LOOPBACK: Final = (
    "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x41))"
)
WAIT: Final = "until curl -s -o /dev/null {}; do sleep 0.02; done"


def documented(page: str, command: str) -> str:
    """A command that stands on a page as it is, alone or with a remark behind it."""
    text = (ROOT / page).read_text()
    assert re.search(rf"^(    |.*`|.*# or: ){re.escape(command)}(`|\s|$)", text, flags=re.MULTILINE), (
        f"{page}: {command}"
    )
    return command


def test_a_newcomer_s_path_timed(tmp_path: Path, tell: Tell) -> None:
    if subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        lacking("a network namespace (unshare -rn)")
    if not CLAUDE.is_file():
        lacking("the npm package @anthropic-ai/claude-code-linux-x64")
    tools, person = tmp_path / "tools", tmp_path / "newcomer"
    tools.mkdir()
    person.mkdir(mode=0o700)
    (tools / "claude").symlink_to(CLAUDE)
    (tools / "uv").symlink_to(shutil.which("uv") or Path(sys.executable).with_name("uv"))
    for needed in ("git", "curl", "bash"):
        program(needed)
    kept = {name: value for name, value in os.environ.items() if name.upper().startswith(("UV_", "SSL_", "HTTP"))}
    environment = {
        "HOME": str(person),
        "PATH": f"{person}/.local/bin:{tools}:/usr/local/bin:/usr/bin:/bin",
        "TERM": "dumb",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        # As pip does: a machine's own authorities count (the second is what older ones call it).
        "UV_SYSTEM_CERTS": "1",
        "UV_NATIVE_TLS": "1",
    }
    steps = {
        "clone": f"git clone -q {ROOT} tokenferry",
        "install": f"cd tokenferry && {documented('README.md', 'uv tool install .')}",
    }
    seconds = {}
    for name, command in steps.items():
        before = time.monotonic()
        done = subprocess.run(
            ["bash", "-ec", command], cwd=person, env=kept | environment, capture_output=True, text=True, check=False
        )
        seconds[name] = time.monotonic() - before
        assert done.returncode == 0, done.stdout + done.stderr
    issue = (
        "curl -s 'http://127.0.0.1:13457/_sandbox/issue?account=bob' | tokenferry account add bob --provider sandbox"
    )
    variables = (
        "export ANTHROPIC_BASE_URL=http://127.0.0.1:13456",
        "export ANTHROPIC_AUTH_TOKEN=$(tokenferry token --gateway)",
    )
    steps = {
        "a provider to play with": f"{documented('docs/sandbox.md', 'tokenferry sandbox')} >sandbox.log 2>&1 & "
        + WAIT.format("http://127.0.0.1:13457/"),
        "an account": documented("docs/sandbox.md", issue),
        "Claude Code for one session": f"{documented('README.md', 'tokenferry run -- claude')} -p hi",
        "the gateway": f"{documented('README.md', 'tokenferry serve')} >serve.log 2>&1 & "
        + WAIT.format("http://127.0.0.1:13456/healthz"),
        "its variables": "; ".join(documented("README.md", one) for one in variables),
        "Claude Code through the gateway": "claude -p hi",
        "its settings instead": "unset ANTHROPIC_BASE_URL ANTHROPIC_AUTH_TOKEN; "
        f"{documented('README.md', 'tokenferry setup claude-code')} --yes",
        "Claude Code by its settings": "claude -p hi",
    }
    script = [f'{sys.executable} -c "{LOOPBACK}"', "trap 'kill $(jobs -p)' EXIT"]
    for name, command in steps.items():
        script += [f"echo '@@' $(date +%s.%N) {name}", command]
    script.append("echo '@@' $(date +%s.%N) end")
    done = subprocess.run(
        ["unshare", "-rn", "bash", "-ec", "\n".join(script)],
        cwd=person,
        env=environment | QUIET,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    logs = "\n".join(path.read_text() for path in person.glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    parts = re.split(r"^@@ ([\d.]+) (.*)$", done.stdout, flags=re.MULTILINE)[1:]
    moments, names, said = [float(one) for one in parts[::3]], parts[1::3], parts[2::3]
    for number, name in enumerate(names[:-1]):
        seconds[name] = moments[number + 1] - moments[number]
        if name.startswith("Claude Code"):
            assert "Hello from the sandbox, you said: hi" in said[number], (name, done.stdout, done.stderr, logs)
    for name, taken in seconds.items():
        tell(f"newcomer: {taken:6.1f} s  {name}")
    tell(f"newcomer: {sum(seconds.values()):6.1f} s  in all")
