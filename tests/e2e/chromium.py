"""A real Chromium for a test, without a person, a profile or a network but loopback."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from e2e.parties import MODULES, lacking, program

_DRIVER: Final = Path(__file__).with_name("browser") / "drive.mjs"


class Browser:
    """One page; what is asked of it ends before the next is asked."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log
        self.version: str = self._told()

    def open(self, url: str) -> dict[str, Any]:
        """Go there; give the `status` of the page and its `text`."""
        seen: dict[str, Any] = self._ask({"open": url})
        return seen

    def run(self, function: str, argument: object = None) -> Any:
        """Call a JavaScript function in the page, and give what it gives, or what its promise does."""
        return self._ask({"run": function, "with": argument})

    def picture(self, path: Path) -> None:
        """Keep how the page looks, as a PNG."""
        self._ask({"picture": str(path)})

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._told()

    def _told(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        told = json.loads(line)
        assert "value" in told, told
        return told["value"]


@contextlib.contextmanager
def chromium(folder: Path, *, names: str) -> Iterator[Browser]:
    """Run it for a block; `names` says what host names mean, as its --host-resolver-rules do."""
    if not (MODULES / "playwright-core").is_dir():
        lacking("the npm package playwright-core")
    command = [program("node"), str(_DRIVER), program("chromium"), str(folder / "chromium"), names]
    log = folder / "chromium.log"
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        ) as process,
    ):
        try:
            yield Browser(process, log)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)
        finally:
            process.kill()
