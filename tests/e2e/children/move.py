"""Move a login to Claude Code, and die by SIGKILL just before the step of that number; see crash.py.

A lock that a killed one left counts as left behind after half a second here.
"""

import os
import sys
from pathlib import Path

from e2e.children.crash import Fatal, FatalDisk
from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeStore, CredentialsFile, LockTiming
from tokenferry.claude_code.moves import Mover
from tokenferry.settings import Home
from tokenferry.stores import Account, Disk


def mover(home: Home, disk: Disk) -> Mover:
    claude = ClaudeCodeHome(Path(os.environ["HOME"]) / ".claude")

    def open_claude_code(account: Account) -> ClaudeCodeStore:
        place = CredentialsFile(claude, disk=disk)
        timing = LockTiming(heartbeat=0.1, stale=0.5, pause=0.02)
        return ClaudeCodeStore(account, claude, home.locks, places=(place,), timing=timing)

    return Mover(home, open_claude_code, machine="here", disk=disk)


def main(what: str, name: str, last: int, log: Path) -> None:
    fatal = Fatal(last, log)
    party = mover(Home.from_environment(), FatalDisk(fatal, "move"))
    if what == "move":
        party.move(name)
    else:
        party.recover()
    fatal.note("done")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
