"""The fake upstream and the load generator of the benchmarks, each in a process of its own."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from e2e.parties import PATIENCE, eventually, fetch

_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Origin:
    """It answers what each request asks for, and counts."""

    url: str

    def figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = fetch(f"{self.url}/figures")
        return figures

    def reset(self) -> None:
        fetch(f"{self.url}/reset")

    def release(self) -> None:
        """Let answers go on that were asked for as held."""
        fetch(f"{self.url}/release")

    def wait(self, holds: Callable[[dict[str, Any]], object], what: str) -> None:
        eventually(lambda: holds(self.figures()), what)


@contextlib.contextmanager
def running_origin() -> Iterator[Origin]:
    command = [sys.executable, "-m", "bench._origin"]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Origin(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


class Load:
    """A job under way; leaving it kills it, if it goes on."""

    def __init__(self, url: str, key: str, **job: Any) -> None:
        whole = {"host": "127.0.0.1", "port": urlsplit(url).port, "size": 2048, "headers": {"x-api-key": key}, **job}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench._load"], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(whole))
        self.process.stdin.close()
        self.process.stdin = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def end(self) -> dict[str, Any]:
        """Wait for its end, and give what became of its requests."""
        out, _ = self.process.communicate(timeout=2 * PATIENCE)
        figures: dict[str, Any] = json.loads(out)
        return figures
