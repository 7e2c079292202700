import os
import plistlib
from pathlib import Path
from typing import Any, Final

from tokenferry.service._manager import Run, RunState, Step, run
from tokenferry.service._program import MARK, Program

LABEL: Final = "tokenferry"
_HEAD: Final = b"<plist "


def render_agent(program: Program, log: Path) -> bytes:
    """The agent, launchd.plist(5). It holds no secret."""
    agent: dict[str, Any] = {
        "Label": LABEL,
        "ProgramArguments": list(program.command),
        "EnvironmentVariables": dict(program.environment),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 30,
        "ExitTimeOut": 180,
        "ProcessType": "Standard" if program.serves else "Background",
        "Umask": 0o077,
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    before, head, after = plistlib.dumps(agent).partition(_HEAD)
    return b"".join((before, f"<!-- {MARK} -->\n".encode(), head, after))


class Launchd:
    """The launchd of this user's graphical session."""

    name = "launchd"

    def __init__(self, person: Path, *, uid: int | None = None, launchctl: str = "launchctl", run: Run = run) -> None:
        self.path = person / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self._log = person / "Library" / "Logs" / "tokenferry.log"
        self._domain = f"gui/{os.getuid() if uid is None else uid}"
        self._launchctl = launchctl
        self._run = run

    def render(self, program: Program) -> bytes:
        return render_agent(program, self._log)

    def starting(self) -> tuple[Step, ...]:
        return (
            Step((self._launchctl, "bootout", f"{self._domain}/{LABEL}"), may_fail=True),
            Step((self._launchctl, "enable", f"{self._domain}/{LABEL}")),
            # The one that was asked to end may not have ended yet.
            Step((self._launchctl, "bootstrap", self._domain, str(self.path)), tries=10),
        )

    def stopping(self) -> tuple[Step, ...]:
        return (Step((self._launchctl, "bootout", f"{self._domain}/{LABEL}")),)

    def forgetting(self) -> tuple[Step, ...]:
        return ()

    def state(self) -> RunState:
        printed = self._run((self._launchctl, "print", f"{self._domain}/{LABEL}"))
        if printed.code:
            return RunState()
        lines = [line.strip() for line in printed.out.splitlines()]
        active = next((line.removeprefix("state = ") for line in lines if line.startswith("state = ")), None)
        return RunState("loaded", active, is_running=active == "running")

    def left_behind(self) -> tuple[Path, ...]:
        return ()

    def advice(self) -> str:
        return f"it runs while you are logged in; what it says is in {self._log}"
