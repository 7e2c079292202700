import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from refresh.rig import (
    NAME,
    PATIENCE,
    PROVIDERS,
    START,
    Rig,
    answer,
    put,
    token,
    value,
    wait_for,
)
from tokenferry.accounts import accounts_from_environment
from tokenferry.broker import Broker, ForcedRenewals
from tokenferry.config import Config
from tokenferry.credentials import ApiKey, Credential, SetupToken
from tokenferry.errors import (
    CorruptFile,
    CredentialRefused,
    NeedsLogin,
    PolicyRefused,
    RefreshFailed,
    UnknownAccount,
    UnknownProvider,
    extract_login_url_from_error,
)
from tokenferry.providers import Preset, presets
from tokenferry.secret import Secret
from tokenferry.settings import Home, PolicySettings
from tokenferry.state import Cooldown, Scope, State
from tokenferry.stores import Account, Document, MemoryStore


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    rig = Rig(home)
    yield rig
    rig.close()


# -- what is handed out


@pytest.mark.parametrize("preset", presets().values(), ids=lambda preset: preset.name)
def test_a_keys_headers_are_those_that_its_provider_takes(preset: Preset) -> None:
    provider = preset.provider
    key = Document(Account("key", provider.name, "api-key"), ApiKey(Secret("a-key")))
    broker = Broker(store=MemoryStore(key), providers={provider.name: provider})
    shown = (
        ("authorization", "Bearer a-key") if preset.key_header == "authorization" else (preset.key_header, "a-key"),
    )
    assert broker.resolve("key").headers() == shown
    assert broker.resolve("key").headers() == shown  # warm
    assert asyncio.run(broker.aresolve()).headers() == shown
    moved = replace(provider, key_header="x-api-key")
    broker.adopt(Config(providers={provider.name: moved}))
    assert broker.resolve("key").headers() == (("x-api-key", "a-key"),)


def test_a_living_token_is_handed_out_without_a_grant(rig: Rig) -> None:
    rig.put(token(left=3600))
    assert value(rig.broker().resolve(NAME)) == "access-0"
    assert rig.endpoint.requests == 0


def test_an_expired_token_is_refreshed_and_is_on_disk_before_it_is_handed_out(rig: Rig) -> None:
    rig.put(token())
    credential = rig.broker().resolve(NAME)
    assert value(credential) == "access-1"
    assert rig.endpoint.presented == ["refresh-0"]
    stored = rig.store.read(NAME)
    assert stored.credential == credential
    assert stored.generation == 2


def test_the_same_for_asyncio(rig: Rig) -> None:
    rig.put(token())
    broker = rig.broker()

    async def twice() -> list[str]:
        return [value(await broker.aresolve(NAME)) for _ in range(2)]

    assert asyncio.run(twice()) == ["access-1", "access-1"]
    assert rig.endpoint.requests == 1


@pytest.mark.parametrize(
    "credential",
    [ApiKey(Secret("sk-key")), SetupToken(Secret("sk-ant-oat01-" + "s" * 80))],
    ids=["API key", "setup token"],
)
def test_what_never_renews_is_handed_out_as_it_is(rig: Rig, credential: Credential) -> None:
    put(rig.store, Document(Account(NAME, "fake", credential.kind), credential))
    broker = rig.broker()
    assert broker.resolve(NAME) == credential
    broker.invalidate(NAME, credential.secret)
    assert broker.resolve(NAME) == credential
    assert rig.endpoint.requests == 0


_LOUD: set[int] = set()
_heard: list[str] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if threading.get_ident() in _LOUD:
        _heard.append(event)


sys.addaudithook(_listen)


@contextlib.contextmanager
def audited() -> Iterator[list[str]]:
    """What this thread does that the interpreter thinks worth auditing: opens, imports, sockets, threads (PEP 578)."""
    _heard.clear()
    _LOUD.add(threading.get_ident())
    try:
        yield _heard
    finally:
        _LOUD.clear()


def test_a_warm_resolve_does_no_io_takes_no_lock_and_parks_no_thread(rig: Rig) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    first = broker.resolve(NAME)
    with pytest.MonkeyPatch.context() as monkeypatch, audited() as events:
        for part in ("_engine", "_listing", "_resolver", "book"):
            monkeypatch.delattr(broker, part)
        assert list(rig.home.path.iterdir())
        assert len(events) == 1  # it does listen
        events.clear()
        assert all(broker.resolve(NAME) is first for _ in range(1000))
        with contextlib.closing(broker.aresolve(NAME)) as waiting, pytest.raises(StopIteration) as end:
            waiting.send(None)
        assert end.value.value is first
        assert events == []


def test_without_a_name_it_is_the_account_in_use_else_the_only_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    assert value(broker.resolve()) == "access-0"
    rig.put(token(left=3600, number=7), "other")
    second = rig.broker()
    with pytest.raises(UnknownAccount, match="there are several accounts: other, work"):
        second.resolve()
    second.book.use("other")
    assert value(second.resolve()) == "access-7"
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", NAME)
    assert value(rig.broker().resolve()) == "access-0"


def test_if_the_account_in_use_is_dead_the_next_of_its_provider_serves(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.put(token(left=-60, refresh=None))
    rig.put(token(left=3600, number=7), "other")
    rig.put(token(left=3600, number=8), "elsewhere", provider="second")
    broker = rig.broker()
    broker.book.use(NAME)
    assert value(broker.resolve()) == value(asyncio.run(broker.aresolve())) == "access-7"
    assert "account other stands in for work, which is in use" in caplog.text
    with pytest.raises(NeedsLogin):
        broker.resolve(NAME)
    broker.book.remove("other")
    with pytest.raises(NeedsLogin):
        rig.broker().resolve()


def test_without_a_stand_in_that_works_the_account_in_use_is_tried_once(rig: Rig) -> None:
    rig.put(token())
    rig.put(token(left=-60, refresh=None), "other")
    rig.endpoint.script.extend([answer(500)] * 5)
    broker = rig.broker()
    broker.book.use(NAME)
    with pytest.raises(RefreshFailed, match=NAME):
        broker.resolve()
    assert rig.endpoint.requests == 1


def test_an_account_that_a_variable_names_has_no_stand_in(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(token(left=-60, refresh=None))
    rig.put(token(left=3600, number=7), "other")
    broker = rig.broker()
    broker.book.use(NAME)
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", NAME)
    with pytest.raises(NeedsLogin):
        broker.resolve()


def test_a_limited_account_in_use_gives_way_until_every_one_is_limited(rig: Rig, home: Home) -> None:
    for number, name in enumerate((NAME, "other", "third")):
        rig.put(token(left=3600, number=number), name)
    rig.broker().book.use(NAME)
    with State(home.state) as state:
        for expected, name in (("access-1", NAME), ("access-2", "other"), ("access-0", "third")):
            state.cooldowns.put(Cooldown(Scope("account", name), "rate", "test", until=int(START) + 600))
            assert value(rig.broker().resolve()) == expected
        state.cooldowns.clear(Scope("account", NAME))
        state.cooldowns.put(Cooldown(Scope("account", NAME, "claude-opus"), "rate", "test", until=int(START) + 600))
        assert value(rig.broker().resolve()) == "access-0"  # limited for one family of models alone


# -- windows


def test_in_the_advisory_window_one_refresh_runs_in_the_background_and_callers_keep_the_old_token(rig: Rig) -> None:
    rig.put(token(left=200))
    rig.endpoint.gate.clear()
    broker = rig.broker()
    assert {value(broker.resolve(NAME)) for _ in range(100)} == {"access-0"}
    assert rig.endpoint.entered.wait(PATIENCE)
    assert rig.endpoint.requests == 1
    rig.endpoint.gate.set()
    assert broker.drain(PATIENCE)
    assert value(broker.resolve(NAME)) == "access-1"


def test_a_failed_early_refresh_never_surfaces_and_is_not_begun_again_at_every_call(rig: Rig) -> None:
    rig.put(token(left=200))
    rig.endpoint.script.extend([answer(503)] * 5)
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-0"
    wait_for(lambda: broker.statistics(NAME).failures == {"refresh_failed": 1})
    for _ in range(50):
        assert value(broker.resolve(NAME)) == "access-0"
    assert rig.endpoint.requests == 1
    assert broker.statistics(NAME).failures == {"refresh_failed": 1}, "each call began a flight"
    rig.clock.advance(6)
    assert value(broker.resolve(NAME)) == "access-0"
    wait_for(lambda: rig.endpoint.requests == 2)


def test_in_the_mandatory_window_callers_wait(rig: Rig) -> None:
    rig.put(token(left=29))
    assert value(rig.broker().resolve(NAME)) == "access-1"


def test_in_the_mandatory_window_a_failed_refresh_leaves_the_living_token(rig: Rig) -> None:
    rig.put(token(left=29))
    rig.endpoint.script.append(answer(503))
    assert value(rig.broker().resolve(NAME)) == "access-0"


def test_windows_are_no_longer_than_half_the_life_of_a_token(rig: Rig) -> None:
    rig.put(token(left=31, lifetime=60))
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-0"
    assert rig.endpoint.requests == 0
    rig.clock.advance(2)
    assert value(broker.resolve(NAME)) == "access-1"


def test_min_ttl_renews_a_token_with_less_life_than_asked_for(rig: Rig) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    assert value(broker.resolve(NAME, min_ttl=3599)) == "access-0"
    assert value(broker.resolve(NAME, min_ttl=3601)) == "access-1"


def test_min_ttl_takes_what_the_provider_grants_if_that_is_shorter(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.extra = {"expires_in": 60}
    broker = rig.broker()
    assert value(broker.resolve(NAME, min_ttl=7200)) == "access-1"
    assert value(broker.resolve(NAME, min_ttl=7200)) == "access-1", "a token just granted is good enough"
    assert rig.endpoint.requests == 1
    rig.clock.advance(31)
    assert value(broker.resolve(NAME, min_ttl=7200)) == "access-2"


# -- 401


def test_a_refused_token_is_renewed_once(rig: Rig) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    first = broker.resolve(NAME)
    broker.invalidate(NAME, first.secret)
    assert value(broker.resolve(NAME)) == "access-1"
    for _ in range(20):
        broker.invalidate(NAME, first.secret)
        assert value(broker.resolve(NAME)) == "access-1", "a late failure about the old token does nothing"
    assert rig.endpoint.requests == 1


def test_a_token_that_another_process_renewed_since_is_found_before_any_grant(rig: Rig) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    first = broker.resolve(NAME)
    rig.put(token(left=7200, number=5))
    broker.invalidate(NAME, first.secret)
    assert value(broker.resolve(NAME)) == "access-5"
    assert rig.endpoint.requests == 0


@pytest.mark.parametrize("asked", [None, NAME])
def test_a_refusal_counts_for_the_account_however_it_is_asked_for(rig: Rig, asked: str | None) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    first = broker.resolve(asked)
    other = None if asked else NAME
    assert broker.resolve(other) == first
    broker.invalidate(asked, first.secret)
    assert value(broker.resolve(other)) == "access-1"
    assert value(broker.resolve(asked)) == "access-1"


def test_a_late_refusal_does_not_wipe_out_the_one_about_the_present_token(rig: Rig) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    present = broker.resolve(NAME).secret
    broker.invalidate(NAME, present)
    broker.invalidate(NAME, Secret("some-older-token"))
    assert value(broker.resolve(NAME)) == "access-1"


def test_a_token_granted_a_moment_ago_is_not_renewed_because_it_is_refused(rig: Rig) -> None:
    rig.put(token())
    broker = rig.broker()
    granted = broker.resolve(NAME)
    assert broker.was_just_granted(granted)
    rig.clock.advance(59)
    broker.invalidate(NAME, granted.secret)
    with pytest.raises(CredentialRefused, match="granted 59 seconds ago"):
        broker.resolve(NAME)
    assert rig.endpoint.requests == 1
    rig.clock.advance(2)
    assert not broker.was_just_granted(granted)
    assert value(broker.resolve(NAME)) == "access-2"


def test_forced_renewals_are_capped_per_account_and_hour(rig: Rig) -> None:
    """A token that is refused whenever it is new costs 6 grants an hour at most, whichever way it is refused."""
    rig.put(token(left=3600))
    broker = rig.broker()
    for _ in range(30):
        refused = broker.resolve(NAME)
        with contextlib.suppress(CredentialRefused):
            asyncio.run(broker.aresolve(NAME, refused=refused.secret))
        rig.clock.advance(61)
    assert rig.endpoint.requests == 6
    assert broker.forced_renewals(NAME) == ForcedRenewals(granted=6, capped=24)


def test_a_refused_token_that_is_used_up_is_renewed_whatever_the_cap(rig: Rig) -> None:
    rig.endpoint.extra = {"expires_in": 600}
    rig.put(token(left=600))
    broker = rig.broker()
    for _ in range(6):
        asyncio.run(broker.aresolve(NAME, refused=broker.resolve(NAME).secret))
        rig.clock.advance(61)
    broker.invalidate(NAME, broker.resolve(NAME).secret)
    rig.clock.advance(550)
    assert value(broker.resolve(NAME)) == "access-7"


def test_a_token_that_one_caller_was_refused_serves_the_others_where_no_other_can_be_had(rig: Rig) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    refused = broker.resolve(NAME).secret
    rig.endpoint.script.append(answer(503))
    with pytest.raises(RefreshFailed):
        asyncio.run(broker.aresolve(NAME, refused=refused))
    assert broker.resolve(NAME).secret == refused
    rig.clock.advance(600)
    assert value(asyncio.run(broker.aresolve(NAME, refused=refused))) == "access-2"
    assert value(asyncio.run(broker.aresolve(NAME, refused=refused))) == "access-2", "there is another one already"
    assert rig.endpoint.requests == 2


def test_an_added_token_is_not_taken_for_one_of_our_grants(rig: Rig) -> None:
    rig.put(token(left=3600, obtained_at=int(START), source="import"))
    broker = rig.broker()
    first = broker.resolve(NAME)
    assert not broker.was_just_granted(first)
    broker.invalidate(NAME, first.secret)
    assert value(broker.resolve(NAME)) == "access-1"


def test_a_refused_token_from_the_environment_is_said_to_come_from_there(home: Home) -> None:
    implicit = accounts_from_environment({"ANTHROPIC_AUTH_TOKEN": "sk-ant-oat01-" + "e" * 90})
    broker = Broker(home=home, implicit=implicit, policy=PolicySettings("own-use"))
    first = broker.resolve()
    broker.invalidate(None, first.secret)
    with pytest.raises(CredentialRefused, match="put another into that variable"):
        broker.resolve()
    broker.drain(PATIENCE)


def test_a_forced_refresh_is_one_grant_however_fresh_the_token(rig: Rig) -> None:
    rig.put(token(left=20_000))
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-0"
    assert value(broker.refresh(NAME)) == "access-1"
    assert value(broker.resolve(NAME)) == "access-1"
    rig.endpoint.script.append(answer(503))
    with pytest.raises(RefreshFailed):
        broker.refresh(NAME)


def test_a_forced_refresh_that_meets_one_in_flight_is_content_with_it(rig: Rig) -> None:
    rig.put(token(left=200))
    rig.endpoint.gate.clear()
    broker = rig.broker()
    broker.resolve(NAME)
    assert rig.endpoint.entered.wait(PATIENCE)
    threading.Timer(0.05, rig.endpoint.gate.set).start()
    assert value(broker.refresh(NAME)) == "access-1"
    assert rig.endpoint.requests == 1


# -- refusals


def test_a_subscription_credential_is_handed_out_only_if_policy_says_so(rig: Rig) -> None:
    rig.put(token(left=3600))
    providers = {"fake": replace(PROVIDERS["fake"], subscription=True)}
    with pytest.raises(PolicyRefused, match=r"set subscriptions = \"own-use\" under \[policy\]"):
        rig.broker(providers=providers).resolve(NAME)
    own = rig.broker(providers=providers, policy=PolicySettings(subscriptions="own-use"))
    assert value(own.resolve(NAME)) == "access-0"


def test_policy_comes_before_any_refresh(rig: Rig) -> None:
    rig.put(token())
    broker = rig.broker(providers={"fake": replace(PROVIDERS["fake"], subscription=True)})
    with pytest.raises(PolicyRefused):
        broker.resolve(NAME)
    with pytest.raises(PolicyRefused):
        broker.refresh(NAME)
    assert rig.endpoint.requests == 0


def test_errors_name_what_is_missing(rig: Rig) -> None:
    broker = rig.broker()
    with pytest.raises(UnknownAccount, match="tokenferry account list"):
        broker.resolve("nobody")
    with pytest.raises(UnknownAccount, match="tokenferry account add"):
        broker.resolve()
    rig.put(token(), provider="elsewhere")
    with pytest.raises(UnknownProvider, match=r"'elsewhere', which is not declared; known: fake; .*config\.toml"):
        broker.resolve(NAME)
    rig.store.path("broken").write_bytes(b"{")
    rig.store.path("broken").chmod(0o600)
    with pytest.raises(CorruptFile):
        broker.resolve("broken")


def test_a_refresh_token_that_is_absent_is_said_to_be(rig: Rig) -> None:
    rig.put(token(refresh=None))
    with pytest.raises(NeedsLogin, match=r"refresh token absent.*tokenferry login work"):
        rig.broker().resolve(NAME)
    assert rig.endpoint.requests == 0


def test_a_dead_logins_error_ends_with_the_page_about_that_if_there_is_one(rig: Rig) -> None:
    rig.put(token(left=-1, refresh=None))
    broker = rig.broker()
    broker.login_page = "http://127.0.0.1:13456/login"
    for ask in (broker.resolve, broker.refresh):
        with pytest.raises(NeedsLogin, match=r"tokenferry login work\. Please log in: http://\S+/login$") as caught:
            ask(NAME)
        assert extract_login_url_from_error(str(caught.value)) == broker.login_page


@pytest.mark.parametrize("owner", ["external", "ant"])
def test_a_chain_of_another_owner_is_read_and_never_refreshed(rig: Rig, owner: str) -> None:
    rig.put(token(left=10), owner=owner)
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-0"
    rig.clock.advance(11)
    with pytest.raises(NeedsLogin, match=f"owned by {owner}"):
        broker.resolve(NAME)
    rig.put(token(left=3600, number=1), owner=owner)
    assert value(broker.resolve(NAME)) == "access-1", "what the owner renewed is used"
    assert rig.endpoint.requests == 0
