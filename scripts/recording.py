"""`make recording`: record `tokenferry demo` in a terminal, and draw it as docs/images/demo.svg.

Values that differ between runs are replaced: ports, times, durations, fingerprints and request ids. Lines appear at a
reader's pace; without animation all of them show.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
from html import escape
from pathlib import Path
from typing import Final

PICTURE: Final = Path(__file__).resolve().parents[1] / "docs" / "images" / "demo.svg"
COMMAND: Final = "tokenferry demo"
COLUMNS: Final = 100
CELL: Final = (8.43, 19)
"""Width and height of a character at 14 pixels, in pixels."""
MARGIN: Final = 16
PACES: Final = {"": 0.9, "$": 0.7, "text": 0.35}
"""Seconds before a line appears: after an empty line, for a command, for other lines."""
VARYING: Final = {
    r"127\.0\.0\.1:\d+": "127.0.0.1:13456",
    r"tf_[0-9a-f]{24}": "tf_0f3a5c7e9b1d2f4a6c8e0b1d",
    r"\b[0-9a-f]{8}\b": "3e4f8319",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ": "2027-01-15T10:00:00Z",
    r"\+\d+ ms {1,5}": "+4 ms     ",
    r"\b\d+ ms\)": "4 ms)",
    r"after \d+ ms": "after 9 ms",
    r" \N{FERRY}": "",  # few fonts have it
}
ACCENTS: Final = {
    r"^\d\. .*$": "title",
    r"^ *\$ .*$": "command",
    r"^.*(invalid_grant|: 401|logged out\.)$": "bad",
    r"^.*(same token|no error and no wait|answered 200|^ *result +200).*$": "good",
}
STYLE: Final = """
rect { fill: #10151c } text { fill: #d5dbe3; font: 14px ui-monospace, Menlo, Consolas, monospace; white-space: pre }
.title { fill: #7fd7c4; font-weight: bold } .command { fill: #f3f6fa } .bad { fill: #ff9d94 } .good { fill: #a5e075 }
text { animation: show 0.01s both } @keyframes show { from { visibility: hidden } }
@media (prefers-reduced-motion: reduce) { text { animation: none } }
"""


def recorded(command: list[str]) -> str:
    """The output of a command in a terminal of `COLUMNS`. Raises `CalledProcessError`."""
    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 40, COLUMNS, 0, 0))
    with tempfile.TemporaryDirectory() as home:
        variables = os.environ | {"HOME": home, "TERM": "dumb", "COLUMNS": str(COLUMNS)}
        with subprocess.Popen(command, env=variables, stdin=terminal, stdout=terminal, stderr=terminal) as process:
            os.close(terminal)
            output = b""
            while chunk := _read(ours):
                output += chunk
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return output.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end closed
        return b""


def steady(text: str) -> str:
    """The text with the values that differ between runs replaced."""
    for varying, fixed in VARYING.items():
        text = re.sub(varying, fixed, text)
    return text


def svg(text: str) -> str:
    lines = [part for line in [f"$ {COMMAND}", *text.strip("\n").split("\n")] for part in _wrapped(line)]
    width, height = COLUMNS * CELL[0] + 2 * MARGIN, len(lines) * CELL[1] + 2 * MARGIN
    drawn, moment = [], 0.0
    for number, line in enumerate(lines):
        moment += PACES.get(line.strip()[:1], PACES["text"])
        if line.strip():
            accent = next((name for pattern, name in ACCENTS.items() if re.search(pattern, line)), "")
            place = f'x="{MARGIN}" y="{MARGIN + (number + 0.8) * CELL[1]:.0f}" class="{accent}"'
            drawn.append(f'<text {place} style="animation-delay: {moment:.2f}s">{escape(line, quote=False)}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
            f"<title>{COMMAND}: a refresh race, a limit and a failover</title>",
            f"<style>{STYLE}</style>",
            '<rect width="100%" height="100%" rx="8"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, COLUMNS, subsequent_indent=14 * " ", replace_whitespace=False) or [""]


if __name__ == "__main__":
    PICTURE.write_text(svg(steady(recorded([str(Path(sys.executable).with_name("tokenferry")), "demo"]))))
