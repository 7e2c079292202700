"""tokenferry and the real Claude Code on one login, against one provider that revokes it on reuse.

Claude Code asks its vendor's hosts, which a proxy with a certificate authority of its own plays; tokenferry asks the
sandbox behind it.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from claude_code.rig import ACCOUNT
from e2e.claude import Claude, Process, is_answered
from e2e.conftest import Tell
from e2e.parties import COMMAND, PATIENCE, SandboxProcess, begin, digest, end, eventually, tokenferry, write_config
from e2e.vendor import TOKEN_ENDPOINT, Vendor, playing_vendor
from tokenferry import Broker
from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeLock, ClaudeCodeStore, LockTiming
from tokenferry.config import load
from tokenferry.errors import LockTimeout
from tokenferry.refresh import FileJournal
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

CONFIG: Final = """[[providers]]
name = "claude-max"
base_url = "{url}"

[providers.oauth]
token_endpoint = "{url}/v1/oauth/token"

[policy]
subscriptions = "own-use"
"""
FOREIGN: Final = {"mcpOAuth": {"server": {"token": "kept"}}, "pluginSecrets": {}, "unknownThere": [1, None]}
TOKEN_PATH: Final = "/v1/oauth/token"
WHILE: Final = 4.0


@pytest.fixture
def place() -> ClaudeCodeHome:
    """The folder in the throw-away home that both programs find by themselves."""
    person = Path(os.environ["HOME"])
    (person / ".claude").mkdir(mode=0o700)
    return ClaudeCodeHome(person / ".claude")


@pytest.fixture
def vendor(sandbox: SandboxProcess, tmp_path: Path) -> Iterator[Vendor]:
    with playing_vendor(sandbox.url, tmp_path) as vendor:
        yield vendor
    assert vendor.refused == []


@pytest.fixture
def claude(place: ClaudeCodeHome, vendor: Vendor) -> Claude:
    return Claude(place.path.parent, vendor.url, vendor.authority)


@pytest.fixture
def chain(place: ClaudeCodeHome, sandbox: SandboxProcess, home: Home) -> "Chain":
    """An expired login of Claude Code's, attached here as `mine`."""
    write_config(home, CONFIG.format(url=sandbox.url))
    chain = Chain(place, sandbox)
    chain.log_in()
    outcome = tokenferry("claude-code", "attach", "mine")
    assert outcome.code == 0, outcome.err
    return chain


class Chain:
    """The login in Claude Code's file, and what became of it at the provider."""

    def __init__(self, place: ClaudeCodeHome, sandbox: SandboxProcess) -> None:
        self.file = place.credentials
        self.sandbox = sandbox
        self.presented = ""

    def log_in(self, *, expires_in: int = -60) -> None:
        """Put a new chain there, as `claude /login` does."""
        given = self.sandbox.issue("alice", expires_in=expires_in)
        self.presented = digest(given["refresh_token"])
        login = {
            "accessToken": given["access_token"],
            "refreshToken": given["refresh_token"],
            "expiresAt": int(time.time() + expires_in) * 1000,
            "scopes": given["scopes"],
            "subscriptionType": "max",
            "unknownHere": {"kept": True},
        }
        self.write({**FOREIGN, "claudeAiOauth": login})

    def write(self, document: dict[str, Any]) -> None:
        """As Claude Code does: whole, by rename."""
        temporary = self.file.with_name(f"{self.file.name}.tmp.0123abcd")
        temporary.write_text(json.dumps(document, separators=(",", ":")))
        temporary.chmod(0o600)
        temporary.replace(self.file)

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.file.read_bytes())
        return document

    def login(self) -> dict[str, Any]:
        login: dict[str, Any] = self.document()["claudeAiOauth"]
        return login

    def check_one_grant(self, *, grants: int = 1) -> None:
        """As many grants as that, no reuse, and a login that lives."""
        counters = self.sandbox.counters()
        assert (counters["refreshes"], counters["reuses"], counters["families_revoked"]) == (grants, 0, 0), counters
        assert self.login()["refreshToken"]
        assert self.login()["expiresAt"] > time.time() * 1000
        document = self.document()
        assert {key: document[key] for key in FOREIGN} == FOREIGN
        assert (self.file.is_symlink(), self.file.stat().st_mode & 0o777) == (False, 0o600)


def check_nothing_is_held(place: ClaudeCodeHome) -> None:
    assert [path.exists() for path in (place.refresh_lock, place.folder_lock, place.write_lock)] == [False] * 3


def ours() -> Process:
    return begin(COMMAND, "token", "mine")


def check_both_worked(chain: Chain, ours: list[Process], theirs: list[Process]) -> None:
    """Every process of either kind worked, with what lies there now."""
    for process in theirs:
        outcome = end(process)
        assert is_answered(outcome), outcome
    for process in ours:
        outcome = end(process)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.strip() == chain.login()["accessToken"]


@pytest.mark.parametrize("number", [1, 2], ids=["one of each", "two of each"])
def test_whoever_comes_first_there_is_one_grant_and_all_work(
    claude: Claude, chain: Chain, vendor: Vendor, place: ClaudeCodeHome, *, tell: Tell, number: int
) -> None:
    """They begin at once, or one up to a second before the other, while a grant takes half a second."""
    offsets = (-1.0, -0.5, -0.2, 0.0, 0.2, 0.5, 1.0) if number == 1 else (-0.5, 0.0, 0.5)
    chain.sandbox.fault("delay", path=TOKEN_PATH, seconds=0.5, times=None, after_work=True)
    for count, offset in enumerate(offsets, 1):
        chain.log_in()
        parties = [ours, claude.ask] if offset >= 0 else [claude.ask, ours]
        first = [parties[0]() for _ in range(number)]
        threading.Event().wait(abs(offset))
        second = [parties[1]() for _ in range(number)]
        check_both_worked(chain, *((first, second) if offset >= 0 else (second, first)))
        chain.check_one_grant(grants=count)
        check_nothing_is_held(place)
    tell(
        f"{number} of each on one expired login, {len(offsets)} times: Claude Code made {len(vendor.granted())} grants"
    )


def test_while_it_refreshes_we_wait_and_adopt(claude: Claude, chain: Chain, vendor: Vendor) -> None:
    # Its first request asks for scopes that the login lacks, and is refused.
    chain.sandbox.fault("hang", path=TOKEN_PATH, after_work=True, after=1)
    theirs = claude.ask()
    eventually(lambda: chain.sandbox.counters()["refreshes"] == 1, "it refreshes")
    mine = ours()
    threading.Event().wait(WHILE)  # nothing tells that it waits, but that it doesn't end
    assert mine.poll() is None
    chain.sandbox.clear()
    check_both_worked(chain, [mine], [theirs])
    chain.check_one_grant()
    assert [one.token for one in vendor.granted()] == [chain.presented]


def test_while_we_refresh_for_fifteen_seconds_it_waits_and_adopts(
    claude: Claude, chain: Chain, vendor: Vendor, place: ClaudeCodeHome
) -> None:
    chain.sandbox.fault("delay", path=TOKEN_PATH, seconds=15, after_work=True)
    mine = ours()
    eventually(lambda: chain.sandbox.is_asked(TOKEN_PATH), "we refresh")
    theirs = claude.ask()
    check_both_worked(chain, [mine], [theirs])
    chain.check_one_grant()
    assert TOKEN_ENDPOINT not in vendor.asked
    assert claude.status()[1]["loggedIn"] is True
    check_nothing_is_held(place)


def test_what_it_blanked_is_no_login_and_is_left_blank(
    claude: Claude, chain: Chain, vendor: Vendor, place: ClaudeCodeHome
) -> None:
    """The provider revoked the login; it tried, and wrote its stub."""
    chain.sandbox.revoke("alice", "family")
    assert not is_answered(end(claude.ask()))
    assert (chain.login()["accessToken"], chain.login()["refreshToken"]) == ("", "")
    blanked = chain.file.read_bytes()
    asked = len(chain.sandbox.requests(TOKEN_PATH))
    outcome = tokenferry("token", "mine")
    assert outcome.code == 5
    assert "claude /login" in outcome.one_sentence()
    assert tokenferry("refresh", "mine").code == 5
    assert (chain.file.read_bytes(), len(chain.sandbox.requests(TOKEN_PATH))) == (blanked, asked)
    chain.log_in()
    check_both_worked(chain, [ours()], [])
    assert is_answered(end(claude.ask()))


def test_what_is_dead_to_us_is_not_blanked_by_us(claude: Claude, chain: Chain) -> None:
    chain.sandbox.revoke("alice", "family")
    before = chain.file.read_bytes()
    assert tokenferry("token", "mine").code == 5
    assert tokenferry("token", "mine").code == 5
    assert chain.file.read_bytes() == before
    assert len(chain.sandbox.requests(TOKEN_PATH)) == 1


def test_a_linked_file_is_refused_by_us_and_replaced_by_it(claude: Claude, chain: Chain, tmp_path: Path) -> None:
    target = chain.file.rename(tmp_path / "elsewhere.json")
    chain.file.symlink_to(target)
    outcome = tokenferry("token", "mine")
    assert outcome.code == 8
    assert "is a symbolic link" in outcome.one_sentence()
    assert is_answered(end(claude.ask()))
    chain.check_one_grant()
    check_both_worked(chain, [ours()], [])
    chain.check_one_grant()


def test_foreign_keys_survive_a_write_by_each(claude: Claude, chain: Chain) -> None:
    """Those within the login survive ours; it drops what it doesn't know there when it writes."""
    order = list(chain.document())
    check_both_worked(chain, [ours()], [])
    chain.check_one_grant()
    assert chain.login()["unknownHere"] == {"kept": True}
    assert list(chain.document()) == order
    assert claude.status()[1]["loggedIn"] is True
    login = chain.login() | {"expiresAt": int(time.time() - 60) * 1000}
    chain.write({**chain.document(), "claudeAiOauth": login})
    assert is_answered(end(claude.ask()))
    chain.check_one_grant(grants=2)
    told = chain.login()
    assert "unknownHere" not in told
    login = told | {"expiresAt": int(time.time() - 60) * 1000}
    chain.write({**chain.document(), "claudeAiOauth": login})
    check_both_worked(chain, [ours()], [])
    chain.check_one_grant(grants=3)
    assert chain.login().keys() == told.keys()
    assert is_answered(end(claude.ask()))


def test_what_an_old_version_writes_under_the_folder_lock_alone_both_adopt(
    claude: Claude, chain: Chain, vendor: Vendor, place: ClaudeCodeHome
) -> None:
    with old_version(place):
        mine, theirs = ours(), claude.ask()
        threading.Event().wait(WHILE)  # nothing tells that they wait, but that they don't end
        assert (mine.poll(), theirs.poll()) == (None, None)
        chain.log_in(expires_in=28_800)
    check_both_worked(chain, [mine], [theirs])
    chain.check_one_grant(grants=0)
    assert TOKEN_ENDPOINT not in vendor.asked


@contextlib.contextmanager
def old_version(place: ClaudeCodeHome) -> Iterator[None]:
    """A Claude Code of earlier days: it holds the lock beside the folder, and touches it every second."""
    place.folder_lock.mkdir()
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(1.0):
            os.utime(place.folder_lock)

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        place.folder_lock.rmdir()


def test_what_it_left_when_it_was_killed_in_mid_refresh_our_commands_take_over_after_a_minute(
    claude: Claude, chain: Chain, place: ClaudeCodeHome
) -> None:
    """Its request never arrived. One command gives up waiting; the next goes on counting where that one stopped."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        theirs = claude.begin("-p", "hi", proxy=f"http://127.0.0.1:{mute.getsockname()[1]}")
        eventually(lambda: place.refresh_lock.is_dir() and place.folder_lock.is_dir(), "it refreshes")
        mute.settimeout(PATIENCE)
        with mute.accept()[0]:  # it asks
            theirs.kill()
            theirs.communicate()
    outcome = tokenferry("token", "mine")
    assert outcome.code == 6
    assert "Claude Code" in outcome.one_sentence()
    assert chain.sandbox.counters()["refreshes"] == 0
    outcome = tokenferry("token", "mine")
    assert (outcome.code, outcome.out.strip()) == (0, chain.login()["accessToken"]), outcome
    assert outcome.err.count("is taken over") == 2
    chain.check_one_grant()
    check_nothing_is_held(place)
    assert is_answered(end(claude.ask()))
    chain.check_one_grant()


def test_what_we_left_when_we_were_killed_in_mid_refresh_it_waits_for_and_takes_over(
    claude: Claude, chain: Chain, vendor: Vendor, place: ClaudeCodeHome
) -> None:
    """Our request was not carried out. A minute is let pass by setting both modification times back."""
    chain.sandbox.fault("hang", path=TOKEN_PATH)
    mine = ours()
    eventually(lambda: chain.sandbox.is_asked(TOKEN_PATH), "we refresh")
    mine.kill()
    mine.communicate()
    chain.sandbox.clear()
    waiting = claude.ask()
    threading.Event().wait(WHILE)
    assert waiting.poll() is None
    assert TOKEN_ENDPOINT not in vendor.asked
    for path in (place.refresh_lock, place.folder_lock):
        os.utime(path, (time.time() - 61, time.time() - 61))
    assert is_answered(end(waiting))
    chain.check_one_grant()
    assert [one.token for one in vendor.granted()] == [chain.presented]
    check_both_worked(chain, [ours()], [])
    chain.check_one_grant()
    check_nothing_is_held(place)


@pytest.mark.parametrize("ahead", [-30.0, 3600.0], ids=["recent", "an hour ahead"])
def test_a_lock_left_with_any_time_is_taken_over_when_it_stood_still(
    claude: Claude, chain: Chain, place: ClaudeCodeHome, home: Home, ahead: float
) -> None:
    """Claude Code can't get past one whose time lies ahead; tokenferry can, with a second of patience here."""
    for path in (place.refresh_lock, place.folder_lock):
        path.mkdir()
        os.utime(path, (time.time() + ahead, time.time() + ahead))
    with pytest.raises(LockTimeout):
        ClaudeCodeLock(place, home.locks).acquire(0)
    store = ClaudeCodeStore(ACCOUNT, place, home.locks, timing=LockTiming(stale=1.0))
    config = load(home.config)
    broker = Broker(store=store, journal=FileJournal(home.journal), providers=config.providers, policy=config.policy)
    assert broker.resolve("mine").secret.reveal() == chain.login()["accessToken"]
    chain.check_one_grant()
    check_nothing_is_held(place)
    assert is_answered(end(claude.ask()))
    chain.check_one_grant()
