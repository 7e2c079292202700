"""The real Claude Code, with an emptied environment, in a home of its own."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from e2e.parties import MODULES, Outcome, begin, end, lacking

Process: TypeAlias = subprocess.Popen[str]

_QUIET: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class Claude:
    """`proxy` is the only way it has to the world, whose certificates `authority` signs."""

    person: Path
    proxy: str
    authority: Path | None = None

    def begin(self, *arguments: str, proxy: str = "", **variables: str) -> Process:
        return self.begin_by((), *arguments, proxy=proxy, **variables)

    def begin_by(self, before: tuple[str, ...], *arguments: str, proxy: str = "", **variables: str) -> Process:
        """Have another program start it."""
        path = MODULES / "@anthropic-ai/claude-code-linux-x64/claude"
        if not path.is_file():
            lacking("the npm package @anthropic-ai/claude-code-linux-x64")
        base = {"PATH": "/usr/bin:/bin", "HOME": str(self.person), "TERM": "dumb", "NO_PROXY": "127.0.0.1"}
        base |= {"HTTP_PROXY": proxy or self.proxy, "HTTPS_PROXY": proxy or self.proxy}
        if self.authority is not None:
            base["NODE_EXTRA_CA_CERTS"] = str(self.authority)
        environment = [f"{name}={value}" for name, value in (base | _QUIET | variables).items()]
        return begin("/usr/bin/env", "-i", "-C", str(self.person), *environment, *before, str(path), *arguments)

    def ask(self) -> Process:
        return self.begin("-p", "hi")

    def status(self) -> tuple[int, dict[str, Any]]:
        """What it says of its login."""
        outcome = end(self.begin("auth", "status"))
        return outcome.code, json.loads(outcome.out)


def is_answered(outcome: Outcome) -> bool:
    return outcome.code == 0 and "Hello from the sandbox" in outcome.out
