"""`tokenferry serve` in a process of its own, and what it says."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2

from cli.harness import PATIENCE, Running, begin, end, eventually, tokenferry

MESSAGE = b'{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"ahoy"}]}'


class Served:
    """The command, listening, and all that it says on stderr."""

    def __init__(self, process: Running, port: int, key: str) -> None:
        self.process, self.port, self.key = process, port, key
        self.url = f"http://127.0.0.1:{port}"
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said += (line.rstrip("\n") for line in iter(self.process.stderr.readline, ""))

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def hears(self, text: str) -> None:
        eventually(lambda: any(text in line for line in list(self.said)), lambda: f"{text!r} among {self.said}")

    def end(self) -> int:
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def stream(self) -> contextlib.AbstractContextManager[httpx2.Response]:
        body = MESSAGE[:-1] + b',"stream":true}'
        return httpx2.stream(
            "POST", f"{self.url}/v1/messages", content=body, headers=self.headers, trust_env=False, timeout=PATIENCE
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"x-api-key": self.key, "anthropic-version": "2023-06-01", "content-type": "application/json"}


@contextlib.contextmanager
def serving(tmp_path: Path, *arguments: str) -> Iterator[Served]:
    file = tmp_path / "port"
    process = begin("serve", "--port", "0", "--port-file", str(file), *arguments)
    served = None
    try:
        eventually(lambda: file.exists() or process.poll() is not None)
        assert process.poll() is None, end(process)
        served = Served(process, int(file.read_text()), tokenferry("token", "--gateway").out.strip())
        yield served
    finally:
        process.kill()
        if served is not None:
            served.end()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    assert served is not None
    assert served.key not in "".join(served.said)
