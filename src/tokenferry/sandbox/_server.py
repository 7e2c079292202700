import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tokenferry.errors import TokenferryError, UsageError
from tokenferry.sandbox._settings import ControlError
from tokenferry.sandbox._state import State

if TYPE_CHECKING:
    from tokenferry.sandbox._listener import Listener

DEFAULT_PORT = 13457


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    port_file: str | os.PathLike[str] | None = None,
    ready: Callable[[str], object] | None = None,
    seed: int | str | None = None,
) -> None:
    """Run the sandbox in the foreground until SIGINT or SIGTERM, then return.

    `ready` is called with the base URL once the sandbox listens; `port_file` then holds the port, and is removed at
    the end. Raises TokenferryError if it can't listen on the address.
    """
    from tokenferry.sandbox._listener import Listener  # noqa: PLC0415  # uvicorn is slow to import

    state = State(seed)
    file = None if port_file is None else Path(port_file)

    with contextlib.ExitStack() as at_end:

        def announce(bound: int) -> None:
            if file is not None:
                _write(file, f"{bound}\n")
                at_end.callback(file.unlink, missing_ok=True)
            if ready is not None:
                ready(state.issuer)

        asyncio.run(_until_stopped(Listener(state), host, port, announce))


async def _until_stopped(listener: "Listener", host: str, port: int, announce: Callable[[int], None]) -> None:
    with _signals() as stop:
        bound = await listener.start(host, port)
        try:
            announce(bound)
            await stop.wait()
        finally:
            await listener.stop()


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set, if this is the main thread."""
    stop, loop, taken = asyncio.Event(), asyncio.get_running_loop(), []
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
            taken.append(number)
    try:
        yield stop
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def _write(path: Path, text: str) -> None:
    """Write by renaming, so that a program that waits for the file finds it complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        raise TokenferryError(f"The port file {path} can't be written ({error.strerror}).") from error


class Sandbox:
    """The sandbox in its own thread, on a free port, for use in a `with` statement.

    Every method may be called from any thread, makes no request, and takes effect at once. The same `seed` gives the
    same tokens, ids and codes in the same order.
    """

    def __init__(self, *, seed: int | str | None = None, port: int = 0) -> None:
        self._state = State(seed)
        self._wanted = port
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return self._state.issuer

    def start(self) -> None:
        """Start the thread, and return once it listens."""
        if self._thread is not None:
            raise UsageError("This sandbox runs already.")
        from tokenferry.sandbox._listener import Listener  # noqa: PLC0415  # uvicorn is slow to import

        listening: Future[int] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(Listener(self._state), listening)),
            name="tokenferry-sandbox",
            daemon=True,
        )
        self._thread.start()
        try:
            self.port = listening.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise

    async def _run(self, listener: "Listener", listening: Future[int]) -> None:
        try:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            port = await listener.start("127.0.0.1", self._wanted)
        except BaseException as error:  # noqa: BLE001  # it is raised in the thread that waits
            listening.set_exception(error)
            return
        listening.set_result(port)
        await self._stop.wait()
        await listener.stop()

    def close(self) -> None:
        """Cut every connection and end the thread. Closing twice does nothing."""
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def issue(self, account: str, *, kind: str = "oauth", expires_in: int | None = None) -> dict[str, Any]:
        """Issue a credential: an OAuth bundle of `expires_in` seconds (expired if negative), or `{"key": …}`."""
        return _asked(lambda: self._state.issue(account, kind, expires_in))

    def api_key(self, account: str) -> str:
        """Return the account's API key."""
        return str(self.issue(account, kind="api-key")["key"])

    def setup_token(self, account: str) -> str:
        """Return the account's setup token."""
        return str(self.issue(account, kind="setup-token")["key"])

    def identity_token(self, account: str, *, expires_in: int = 3600) -> str:
        """Return an identity token as a workload's platform would issue it, for the jwt-bearer grant."""
        return str(self.issue(account, kind="identity-token", expires_in=expires_in)["key"])

    def fault(self, kind: str, **parameters: Any) -> dict[str, Any]:
        """Add a fault, as `POST /_sandbox/faults` does."""
        return _asked(lambda: self._state.fault({"kind": kind, **parameters}))

    def clear(self) -> None:
        """Remove every fault; requests that wait for one are answered."""
        self._state.clear()

    def advance(self, seconds: float) -> float:
        """Move the sandbox's clock, and return its time (unix seconds)."""
        return float(self._state.set_clock({"advance": seconds})["now"])

    def now(self) -> float:
        """Return the sandbox's time (unix seconds)."""
        return self._state.clock.now()

    def settings(self, account: str | None = None, **changes: Any) -> dict[str, Any]:
        """Change the settings of one account or of all, and return them by account."""
        given = changes if account is None else {"account": account, **changes}
        return _asked(lambda: self._state.change_settings(given))

    def revoke(self, account: str, what: str = "access") -> None:
        """Revoke an account's `access` tokens, login `family`, `api-key` or `setup-token`."""
        _asked(lambda: self._state.revoke(account, what))

    def counters(self) -> dict[str, Any]:
        """Return the counters since the start or the last reset."""
        return self._state.counts()

    def wait_until(self, condition: Callable[[dict[str, Any]], bool], *, timeout: float = 10) -> dict[str, Any]:
        """Block until `condition` holds for the counters, and return them; TimeoutError after `timeout` seconds."""
        return self._state.wait_until(condition, timeout)

    def requests(self, last: int = 100) -> list[dict[str, Any]]:
        """Return the last requests, oldest first, with fingerprints instead of credentials."""
        return self._state.requests(last)

    def reset(self) -> None:
        """Return to the first state."""
        self._state.reset()


def _asked(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return call()
    except ControlError as error:
        raise UsageError(str(error)) from None
