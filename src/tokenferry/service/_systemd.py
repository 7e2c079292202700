import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tokenferry.service._manager import Run, RunState, Step, run
from tokenferry.service._program import MARK, Program

UNIT: Final = "tokenferry.service"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./@:=+,-]+")

# What works in units of a user, whose manager may not mount anything.
_HARDENING: Final = """\
UMask=0077
LimitCORE=0
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""

_RELOAD: Final = "ExecReload=/bin/kill -HUP $MAINPID\n"


def render_unit(program: Program) -> str:
    """The unit, systemd.service(5). It holds no secret."""
    path, *arguments = program.command
    words = " ".join((_quoted(path), *(_quoted(word).replace("$", "$$") for word in arguments)))
    variables = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in program.environment.items())
    return (
        f"# {MARK}. What you change belongs into: systemctl --user edit tokenferry\n"
        "[Unit]\n"
        f"Description={program.description}\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        f"ExecStart={words}\n"
        f"{_RELOAD if program.serves else ''}"
        f"{variables}"
        "Restart=on-failure\n"
        "RestartSec=30\n"
        "SuccessExitStatus=129 130 143\n"
        "KillMode=mixed\n"
        "TimeoutStopSec=180\n"
        f"{_HARDENING}"
        "\n"
        "[Install]\n"
        "WantedBy=default.target\n"
    )


def _quoted(word: str) -> str:
    """A word as systemd.syntax(7) wants it; a per cent sign begins a specifier."""
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return f'"{escaped}"'


class Systemd:
    """The systemd of this user."""

    name = "systemd"

    def __init__(self, folder: Path, *, systemctl: str = "systemctl", run: Run = run) -> None:
        self.path = folder / UNIT
        self._systemctl = systemctl
        self._run = run

    @classmethod
    def of(cls, environ: Mapping[str, str], person: Path) -> "Systemd":
        """Where a user's own units lie, systemd.unit(5)."""
        base = Path(environ.get("XDG_CONFIG_HOME") or person / ".config")
        return cls((base if base.is_absolute() else person / ".config") / "systemd" / "user")

    def render(self, program: Program) -> bytes:
        return render_unit(program).encode()

    def starting(self) -> tuple[Step, ...]:
        return self._step("daemon-reload"), self._step("enable", UNIT), self._step("restart", UNIT)

    def stopping(self) -> tuple[Step, ...]:
        # It may never have heard of the file, and can't end what it doesn't know.
        return self._step("daemon-reload"), self._step("stop", UNIT), self._step("disable", UNIT)

    def forgetting(self) -> tuple[Step, ...]:
        return (self._step("daemon-reload"),)

    def state(self) -> RunState:
        enabled, active = (
            self._run(self._step(question, UNIT).command).out.strip() or None
            for question in ("is-enabled", "is-active")
        )
        return RunState(enabled, active, is_running=active in {"active", "activating", "reloading"})

    def left_behind(self) -> tuple[Path, ...]:
        return (self.path.parent / "default.target.wants" / UNIT,)

    def advice(self) -> str:
        return "it runs while you are logged in; to let it run from boot on: loginctl enable-linger"

    def _step(self, *words: str) -> Step:
        return Step((self._systemctl, "--user", *words))
