"""Every command block of README.md and docs/, in order, in one home, as it is written.

A block that needs a network or a person says so on the page, in a comment before it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from e2e.conftest import Tell
from e2e.parties import CHILDREN, lacking

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK: Final = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]+) -->\n\n)?"
    r"(?:^```(?P<language>\w*)\n(?P<fenced>.*?)^```$|(?<=\n\n)(?P<indented>(?:    [^\n]*\n|\n(?=    ))+))",
    re.MULTILINE | re.DOTALL,
)
PARTS: Final = {
    "/var/run/secrets/anthropic/token": "identity-token",
    "/media/stick/": "",
    "REQUEST_ID": "last",
    "tf_0f3a5c7e9b1d2f4a6c8e0b1d": "last",
    " NAME": " work",
    " &\n": "\n",  # it goes on in any case
    "PROVIDER": "console",
    "…": "x",
}
ASIDE: Final = {
    "python": """python - <<'END'
{}
print(client.messages.create(
    model="claude-sonnet-5-5", max_tokens=9, messages=[dict(role="user", content="Hello")]).content)
END
""",
    "toml": """cat >>~/.config/tokenferry/config.toml <<'END'
{}
END
tokenferry config check
""",
}
"""How a reader runs what isn't a shell's."""


class Block(NamedTuple):
    page: str
    text: str
    why: str | None = None
    """Why it is not run."""

    def as_meant(self) -> str:
        """With what a reader puts in place of words that stand for theirs."""
        text = self.text
        for written, meant in PARTS.items():
            text = text.replace(written, meant)
        return text


def blocks() -> list[Block]:
    return [one for page in PAGES for one in _blocks(page)]


def _blocks(page: Path) -> Iterator[Block]:
    """What is indented, or fenced as a shell's; of README.md also what is fenced as Python or TOML.

    Those of other pages are run by tests/integrations, tests/config and test_frameworks.py.
    """
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if found["fenced"] is None:
            yield Block(page.name, re.sub("^ {4}", "", found["indented"], flags=re.MULTILINE), found["why"])
        elif found["language"] == "sh":
            yield Block(page.name, found["fenced"], found["why"])
        elif page.name == "README.md" and found["language"] in ASIDE:
            yield Block(page.name, ASIDE[found["language"]].format(found["fenced"]), found["why"])


def test_at_most_five_blocks_are_marked_as_not_run() -> None:
    marked = [one for one in blocks() if one.why]
    assert len(marked) <= 5, marked


def test_every_block_runs(tmp_path: Path, tell: Tell) -> None:
    if subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        lacking("a network namespace (unshare -rn)")
    for folder in ("home", "temporary"):
        (tmp_path / folder).mkdir(mode=0o700)
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    process = subprocess.Popen(
        ["unshare", "-rn", sys.executable, CHILDREN / "reader.py"],
        env=kept
        | {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(ROOT / "tests")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    failed, seconds, said = [], [], ""
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for one in blocks():
            if one.why is None:
                print(json.dumps({"page": one.page, "text": one.as_meant()}), file=process.stdin, flush=True)
                report = json.loads(process.stdout.readline())
                seconds.append(report["seconds"])
                said += report["said"]
                if report["code"]:
                    failed.append(f"{one.page}, exit code {report['code']}:\n{one.text}\n{report['said']}")
        process.stdin.close()
    assert failed == [], "\n".join(failed)
    assert len(seconds) > 100
    assert said.count("Hello from the sandbox") >= 3
    assert "claude has started" in said
    tell(f"pages: {len(seconds)} command blocks ran in {sum(seconds):.0f} s")
