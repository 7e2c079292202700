"""The ground every test stands on: a throw-away home, no network but loopback, no writes outside, no blocked loop."""

import asyncio
import contextlib
import gc
import inspect
import os
import shutil
import signal
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import lru_cache, wraps
from ipaddress import ip_address
from os import lstat, readlink
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import Any

import httpx2
import pytest
from blockbuster import BlockBuster
from httpx2._transports import default as _transports
from hypothesis import HealthCheck, settings

from deadline import PHASE, deadline
from effort import FULL, effort
from rewriting import rewrite
from tokenferry.settings import Home

pytest_plugins = ["tokenferry.testing"]

ROOT = Path(__file__).resolve().parent.parent
_FOREIGN_VARIABLES = ("ANTHROPIC_", "CLAUDE_", "OPENAI_", "TOKENFERRY_", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
_BOUND_S = 120.0
_KEPT_VARIABLES = ("TOKENFERRY_E2E", "TOKENFERRY_TESTS")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Where each of them has its paths, each with the descriptor of the folder to which it is relative.
_PATH_EVENTS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.chmod": ((0, 2),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
}
_FOLLOWED = {"os.chmod", "os.truncate"}
_MEMORY = "/dev/shm"
_ROOM = 512 * 2**20


def _has_memory() -> bool:
    """Whether folders can be in memory: half of a run on a disk waits for fsync, whose effect no test sees."""
    try:
        flags = os.statvfs(_MEMORY).f_flag
    except (AttributeError, OSError):
        return False
    return not flags & (os.ST_NOEXEC | os.ST_RDONLY) and shutil.disk_usage(_MEMORY).free > _ROOM


if "TMPDIR" not in os.environ and _has_memory():
    os.environ["TMPDIR"] = tempfile.tempdir = _MEMORY


class _Warden:
    """An audit hook (PEP 578): it can't be taken out, so it is one for the whole run."""

    def __init__(self) -> None:
        # pytest makes its cache under a temporary name beside it, then renames it.
        caches = (".hypothesis", ".pytest_cache", "pytest-cache-files-", ".coverage", ".mypy_cache")
        self.roots = tuple(f"{root}/" for root in (os.path.realpath(tempfile.gettempdir()), "/dev", "/proc/self"))
        self.prefixes = tuple(str(ROOT / cache) for cache in caches)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            is_written = (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & _WRITING
            if is_written:
                self._check_path(path)
        elif event in _PATH_EVENTS:
            if event == "os.symlink" or (event == "os.rename" and not _is(S_ISREG, arguments[0])):
                _real_folder.cache_clear()
            for path, folder in _PATH_EVENTS[event]:
                is_followed = event in _FOLLOWED
                self._check_path(arguments[path], folder and arguments[folder], is_followed=is_followed)
        elif event == "socket.connect":
            self._check_address(arguments[1])
        elif event == "socket.getaddrinfo":
            self._check_host(arguments[0])

    def _check_path(self, path: object, folder: int | None = None, *, is_followed: bool = True) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        text = _real_path(os.fsdecode(path), folder, is_followed=is_followed)
        if f"{text}/".startswith(self.roots) or "__pycache__" in text or text.startswith(self.prefixes):
            return
        raise PermissionError(f"a test wrote outside its folders: {text}")

    def _check_address(self, address: object) -> None:
        if isinstance(address, tuple):
            self._check_host(address[0])

    def _check_host(self, host: object) -> None:
        text = os.fsdecode(host) if isinstance(host, bytes) else host
        if text in {None, "", "localhost"} or not isinstance(text, str) or text.endswith((".localhost", ".invalid")):
            return
        try:
            is_local = ip_address(text).is_loopback
        except ValueError:
            is_local = False
        if not is_local:
            raise PermissionError(f"a test reached for the network: {text}")


def _is(kind: Callable[[int], bool], path: str | bytes | os.PathLike[str]) -> bool:
    try:
        return kind(lstat(path).st_mode)
    except OSError:
        return False


@lru_cache(maxsize=1024)
def _real_folder(path: str) -> str:
    """Where a folder is. Only a symbolic link that comes or is moved changes that: `_Warden` then forgets all."""
    return os.path.realpath(path)


def _real_path(path: str, folder: int | None, *, is_followed: bool) -> str:
    """`os.path.realpath`, which asks the disk once about a file in a folder that is known."""
    if folder is not None and folder >= 0 and not path.startswith("/"):
        with contextlib.suppress(OSError):  # a machine without /proc
            path = f"{readlink(f'/proc/self/fd/{folder}')}/{path}"  # noqa: PTH115  # that of Path is guarded
    parent, _, name = path.rpartition("/")
    if not parent.startswith("/") or name in {"", ".", ".."} or (is_followed and _is(S_ISLNK, path)):
        return os.path.realpath(path)
    return f"{_real_folder(parent)}/{name}"


sys.addaudithook(_Warden())

_contexts: dict[tuple[bool, str | None, str | None], ssl.SSLContext] = {}


def _client_context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:  # noqa: FBT001, FBT002
    """The machine's authorities, read once for all of the tests' clients: that takes 27 ms."""
    if verify is not True or cert is not None:
        return httpx2.create_ssl_context(verify, cert, trust_env)
    place = trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    return _contexts.get(place) or _contexts.setdefault(place, httpx2.create_ssl_context(trust_env=trust_env))


_transports.create_ssl_context = _client_context  # type: ignore[attr-defined]  # a name that it imports

# A runner in the background, or under nohup, hands down ignored signals; the commands under test rightly keep them so.
with contextlib.suppress(ValueError):  # not the main thread
    for _number, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(_number) is signal.SIG_IGN:
            signal.signal(_number, _default)

# A slow machine is no defect.
settings.register_profile(
    "tokenferry",
    deadline=None,
    max_examples=effort(100),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tokenferry")


def _bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @wraps(test)
    async def bounded(**arguments: object) -> None:
        async with asyncio.timeout(_BOUND_S):
            await test(**arguments)

    return bounded


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are processors, for some tests wait for a clock or another process."""
    return (os.cpu_count() or 1) + 1


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let each worker of a first run make its share of the byte code."""
    config = session.config
    worker = getattr(config, "workerinput", None)
    if worker is not None and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        files = sorted(file for file in ROOT.glob("tests/**/test_*.py") if "e2e" not in file.parts)
        rewrite(files[int(worker["workerid"][2:]) :: worker["workercount"]], config)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the collector of garbage what is imported and collected: all of that stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Let no coroutine test wait for ever: it fails where it waits. `faulthandler_timeout` bounds all else."""
    if inspect.iscoroutinefunction(test := pyfuncitem.obj):
        pyfuncitem.obj = _bounded(test)
    return (yield)


@pytest.hookimpl(wrapper=True)
def _within_the_deadline(item: pytest.Item) -> Generator[None, object, object]:
    """No phase of a test hangs; those of `make e2e` drive programs that take minutes."""
    if item.get_closest_marker("e2e") is not None:
        return (yield)
    with deadline(5 * PHASE if FULL else PHASE):
        return (yield)


pytest_runtest_setup = pytest_runtest_call = pytest_runtest_teardown = _within_the_deadline


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the person who runs the tests reaches them, and HOME is a throw-away one."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN_VARIABLES) and name not in _KEPT_VARIABLES:
            monkeypatch.delenv(name)
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    person = tmp_path / "person"
    person.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(person))
    monkeypatch.setenv("TOKENFERRY_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def _blockbuster() -> BlockBuster:
    """Made once: that takes longer than to activate it."""
    blockbuster = BlockBuster("tokenferry")
    for function in blockbuster.functions.values():
        # Small local files, once: afterwards what changes is listed by the thread that watches them.
        function.can_block_in("tokenferry/broker/_broker.py", {"listing"})
        # Whether SQLite's file was changed costs microseconds to ask, and a changed table of keys is read in well under
        # a millisecond, from a file that readers never wait for.
        function.can_block_in("tokenferry/state/_keys.py", {"_refresh"})
    return blockbuster


@pytest.fixture(autouse=True)
def _no_blocked_loop(_blockbuster: BlockBuster) -> Iterator[None]:
    """A blocking call of ours on an event loop is an error."""
    _blockbuster.activate()
    yield
    _blockbuster.deactivate()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty TOKENFERRY_HOME, made private."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700, exist_ok=True)
    return Home(path)
