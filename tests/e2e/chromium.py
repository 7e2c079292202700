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

    def click(self, selector: str) -> None:
        self._ask({"click": selector})

    def click_into_tab(self, selector: str) -> None:
        """Click what opens a tab, and go on there until `back`."""
        self._ask({"click": selector, "opens": True})

    def back(self) -> None:
        """Close the tab, and go on in the one before."""
        self._ask({"back": True})

    def fill(self, selector: str, text: str) -> None:
        self._ask({"fill": selector, "text": text})

    def shows(self, text: str) -> None:
        """Wait until the page shows a text."""
        self._ask({"await": text})

    def text(self, selector: str) -> str:
        return str(self._ask({"text": selector}))

    def look(self, width: int, theme: str) -> None:
        """Look at pages of so many pixels, in the light or the dark theme."""
        self._ask({"look": {"width": width, "theme": theme}})

    def problems(self) -> list[str]:
        """The errors and warnings on the console since it was asked last."""
        found: list[str] = self._ask({"problems": True})
        return found

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
def chromium(folder: Path, *, names: str, runs_scripts: bool = True) -> Iterator[Browser]:
    """Run it for a block; `names` says what host names mean, as its --host-resolver-rules do."""
    if not (MODULES / "playwright-core").is_dir():
        lacking("the npm package playwright-core")
    scripts = "on" if runs_scripts else "off"
    command = [program("node"), str(_DRIVER), program("chromium"), str(folder / "chromium"), names, scripts]
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
