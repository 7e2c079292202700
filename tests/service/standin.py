"""Stand-ins for `systemctl` and `launchctl`: they note how they were called, and answer as they were told."""

import json
import sys
from pathlib import Path
from typing import Any

_SCRIPT = """\
#!{python} -IS
import json, sys
from pathlib import Path
folder = Path({folder!r})
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
answers = json.loads((folder / "answers").read_text())
words = [word for word in sys.argv[1:] if word in answers]
answer = answers[words[0]] if words else {{}}
sys.stdout.write(answer.get("out", ""))
sys.stderr.write(answer.get("err", ""))
left = answer.get("fails", -1)
if left == 0:
    sys.exit(0)
if left > 0:
    answer["fails"] = left - 1
    (folder / "answers").write_text(json.dumps(answers))
sys.exit(answer.get("code", 0))
"""


class StandIn:
    """`answers` says, by a word of the command line, what is written and the exit code (`fails` times)."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.path = folder / name
        self.path.write_text(_SCRIPT.format(python=sys.executable, folder=str(folder)))
        self.path.chmod(0o755)
        self.answers()

    def answers(self, **answers: Any) -> None:
        given = {key.replace("_", "-"): value for key, value in answers.items()}
        (self._folder / "answers").write_text(json.dumps(given))

    def calls(self) -> list[str]:
        """What it was called with since the last time this was asked."""
        try:
            lines = (self._folder / "calls").read_text().splitlines()
        except FileNotFoundError:
            return []
        (self._folder / "calls").unlink()
        return [" ".join(json.loads(line)) for line in lines]
