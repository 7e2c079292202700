"""Machines on a network of the test's own: namespaces, which end with the process that holds them."""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from e2e.parties import lacking

T = TypeVar("T")

_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_UNSHARE: Final = (
    *("setpriv", "--pdeathsig=KILL"),  # nothing is left where the tests are killed
    *("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
_START: Final = """
ip link set lo up
hostname {name}
[ ! -e /etc/machine-id ] || mount --bind {machine_id} /etc/machine-id
echo ready
exec sleep infinity
"""


class Machine:
    """What a process sees of a machine: its network, host name, machine id and processes. Files are shared."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.address = ""
        machine_id = folder / f"{name}.machine-id"
        machine_id.write_text(f"{os.urandom(16).hex()}\n")
        # The shell is process 1 there: with it all others of the machine end, and its interfaces go.
        self._holder = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _START.format(name=name, machine_id=machine_id)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            lacking("root, and the kernel's namespaces: this test's own network")
        holder = self._holder.pid
        self.pid = int(Path(f"/proc/{holder}/task/{holder}/children").read_text())

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with that runs on this machine."""
        return ("nsenter", f"--target={self.pid}", "--net", "--uts", "--mount", "--pid")

    @property
    def on_network(self) -> tuple[str, ...]:
        """What a command begins with that has this machine's network, and is otherwise here."""
        return ("nsenter", f"--target={self.pid}", "--net")

    def call(self, work: Callable[[], T]) -> T:
        """Do it on a thread that has this machine's network. Sockets that it makes stay there."""
        results: list[T] = []

        def run() -> None:
            with open(f"/proc/{self.pid}/ns/net") as namespace:  # noqa: PTH123  # its number alone is wanted
                assert ctypes.CDLL(None).setns(namespace.fileno(), _NEW_NETWORK) == 0
            results.append(work())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return results[0]

    def forward(self, url: str) -> None:
        """Let this machine reach a server of loopback here at the same address there."""
        port = urlsplit(url).port
        assert port is not None
        listening = self.call(lambda: socket.create_server(("127.0.0.1", port), backlog=64))
        threading.Thread(target=_forward, args=(listening, port), daemon=True).start()

    def power_off(self) -> None:
        """End every process of it."""
        self._holder.kill()
        self._holder.communicate()


def _forward(listening: socket.socket, port: int) -> None:
    with listening:
        while True:
            threading.Thread(target=_relay, args=(listening.accept()[0], port), daemon=True).start()


def _relay(one: socket.socket, port: int) -> None:
    with one, socket.create_connection(("127.0.0.1", port)) as other:
        back = threading.Thread(target=_pump, args=(other, one), daemon=True)
        back.start()
        _pump(one, other)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Network:
    """A switch, with a cable to each machine."""

    def __init__(self, folder: Path) -> None:
        for name in ("unshare", "nsenter", "ip"):
            if shutil.which(name) is None:
                lacking(name)
        self._folder = folder
        self._numbers = count(1)
        self._machines: list[Machine] = []
        self._switch = self._new("switch")
        self._ip("link add name br0 type bridge", "link set dev br0 up")

    def _new(self, name: str) -> Machine:
        made = Machine(name, self._folder)
        self._machines.append(made)
        return made

    def _ip(self, *commands: str, on: Machine | None = None) -> None:
        batch = [*(on or self._switch).on_network, "ip", "-batch", "-"]
        subprocess.run(batch, input="\n".join(commands), text=True, check=True, timeout=30)

    def add(self, name: str) -> Machine:
        """Another machine, connected."""
        made = self._new(name)
        made.address = f"10.99.0.{next(self._numbers)}"
        self._ip(f"link add name {name} type veth peer name eth0 netns {made.pid}", f"link set dev {name} up")
        self._ip(f"address add {made.address}/24 dev eth0", "link set dev eth0 up", on=made)
        self.plug(made)
        return made

    def unplug(self, machine: Machine) -> None:
        """Let whatever it sends and is sent be lost, without a word."""
        self._ip(f"link set dev {machine.name} nomaster")

    def plug(self, machine: Machine) -> None:
        self._ip(f"link set dev {machine.name} master br0")

    def close(self) -> None:
        for machine in self._machines:
            machine.power_off()


@contextlib.contextmanager
def new_network(folder: Path) -> Iterator[Network]:
    """A network for a block."""
    made = Network(folder)
    try:
        yield made
    finally:
        made.close()
