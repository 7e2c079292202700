"""A load balancer before gateways that are restarted one after the other."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import NamedTuple
from urllib.parse import urlsplit

from e2e.parties import COMMAND, PATIENCE, Server, running
from tokenferry.settings import Home


class Place(NamedTuple):
    """Where a gateway is to be."""

    url: str


def ask(server: Server | Place, path: str = "/v1/models", key: str = "", *, body: str | None = None) -> tuple[int, str]:
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"} | (
        {"x-api-key": key} if key else {}
    )
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def answers(server: Server | Place, status: int, path: str = "/v1/models", key: str = "") -> bool:
    return ask(server, path, key)[0] == status


def within(seconds: float, is_so: Callable[[], object]) -> float:
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < seconds, f"not within {seconds:g} s"
        time.sleep(0.01)
    return time.monotonic() - begun


class Balancer:
    """Asks each gateway four times a second whether it is ready, and sends requests to those that are."""

    def __init__(self, request: Callable[[Server], tuple[int, str]]) -> None:
        self._request = request
        self._gateways: list[Server] = []
        self._running: dict[str, contextlib.ExitStack] = {}
        self.ready: list[Server] = []
        self._turns = count()
        self.ending = threading.Event()
        self.served = 0
        self.failed: list[object] = []

    def start(self, home: Home, program: str = COMMAND) -> None:
        """Begin a home's gateway."""
        (home.path / "serve.port").unlink(missing_ok=True)
        stack = self._running[str(home.path)] = contextlib.ExitStack()
        variables = {"TOKENFERRY_HOME": str(home.path)}
        gateway = running("serve", home.path, program=program, variables=variables)
        self._gateways.append(stack.enter_context(gateway))

    def restart(self, home: Home, program: str = COMMAND) -> None:
        """End a gateway, of which the balancer learns by /readyz alone, and begin another in its place."""
        self._running[str(home.path)].close()
        self.start(home, program)
        within(PATIENCE, lambda: len(self.ready) == len(self._running))

    def stop(self) -> None:
        for stack in self._running.values():
            stack.close()

    def watch(self) -> None:
        while not self.ending.wait(0.25):
            self.look()

    def look(self) -> None:
        def is_ready(server: Server) -> bool:
            with contextlib.suppress(OSError):
                return answers(server, 200, "/readyz")
            return False

        self.ready = [*filter(is_ready, self._gateways)]

    def send(self) -> None:
        while not self.ending.is_set():
            ready = self.ready
            server = ready[next(self._turns) % len(ready)]
            try:
                status, said = self._request(server)
            except OSError as fault:
                self.failed.append(fault)
            else:
                self.served += status == 200
                if status != 200:
                    self.failed.append((status, said))
            self.ending.wait(0.01)


@contextlib.contextmanager
def balanced(
    homes: Sequence[Home], request: Callable[[Server], tuple[int, str]], program: str = COMMAND
) -> Iterator[Balancer]:
    """Gateways under load for a block; they are ended behind it."""
    balancer = Balancer(request)
    with contextlib.ExitStack() as stack:
        stack.callback(balancer.stop)
        for home in homes:
            balancer.start(home, program)
        balancer.look()
        threads = stack.enter_context(ThreadPoolExecutor(4))
        stack.callback(balancer.ending.set)
        for work in (balancer.watch, balancer.send, balancer.send, balancer.send):
            threads.submit(work)
        yield balancer
