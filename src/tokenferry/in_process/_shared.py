"""The gateways of this process: one per home and pinned account, shared by all transports."""

import atexit
import os
import threading
from typing import Final

from tokenferry.background import after_fork_in_child
from tokenferry.config import load
from tokenferry.errors import PolicyRefused
from tokenferry.serve import EmbeddedGateway
from tokenferry.settings import Home


class _Running:
    """The running gateways, and the number of users of each."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start empty in a forked child, which lacks the parent's threads. The lock may have been held."""
        self.guard = threading.Lock()
        self.users: dict[tuple[Home, str | None], tuple[EmbeddedGateway, int]] = {}


_running: Final = _Running()
after_fork_in_child(_running.reset)


class SharedGateway:
    """A share in this process's gateway of a home. The gateway starts with the first share and stops with the last.

    A forked child starts its own gateway at its first request.
    """

    def __init__(self, home: Home, account: str | None) -> None:
        self._key = home, account
        self._pid = 0
        self._gateway: EmbeddedGateway | None = None
        self.is_closed = False

    @property
    def running(self) -> EmbeddedGateway | None:
        """The gateway, if it runs in this process."""
        return self._gateway if self._pid == os.getpid() else None

    def get(self) -> EmbeddedGateway:
        """Start the gateway if needed. Raises `ConfigError`, `PolicyRefused`, `UnsafeFile`, `CorruptFile`.

        Raises `RuntimeError` if the share is closed.
        """
        gateway = self.running
        if gateway is not None:
            return gateway
        if self.is_closed:
            raise RuntimeError("the transport is closed; make another one with: tokenferry.transport()")
        with _running.guard:
            if self._gateway is None or self._pid != os.getpid():
                gateway, users = _running.users.get(self._key, (None, 0))
                if gateway is None:
                    gateway = _started(*self._key)
                _running.users[self._key] = gateway, users + 1
                self._gateway, self._pid = gateway, os.getpid()
            assert self._gateway is not None
            return self._gateway

    def close(self) -> None:
        """Return the share. The last one stops the gateway and waits for its thread."""
        with _running.guard:
            gateway, self._gateway, self.is_closed = self._gateway, None, True
            if gateway is None or self._pid != os.getpid():
                return
            _, users = _running.users.pop(self._key, (gateway, 1))  # `_stop_all` removes all at exit
            if users > 1:
                _running.users[self._key] = gateway, users - 1
                return
        gateway.stop()


def _started(home: Home, account: str | None) -> EmbeddedGateway:
    config = load(home.config, statement=home.statement)
    if config.policy.subscriptions == "own-use" and home.path.stat().st_uid != os.getuid():
        raise PolicyRefused(
            f"{home.path} belongs to another user, and the policy own-use allows a subscription only to its owner; "
            "run the program as that user, or let them run: tokenferry policy set claude-code-only"
        )
    gateway = EmbeddedGateway(home, config, account=account)
    gateway.start()
    return gateway


@atexit.register
def _stop_all() -> None:
    with _running.guard:
        users, _running.users = _running.users, {}
    for gateway, _ in users.values():
        gateway.stop()
