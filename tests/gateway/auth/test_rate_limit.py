import asyncio
import logging
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rig import Source, error_of, read_reply, running_gate
from tokenferry.gateway import ERROR_MARK, bind_unix
from tokenferry.gateway.auth.rate_limit import BAD_KEYS_PER_MINUTE, BadKeys
from tokenferry.state import State

BAD = [(b"x-api-key", b"tfk_" + b"x" * 43)]


class Clock:
    def __init__(self) -> None:
        self.value = 1000.0

    def __call__(self) -> float:
        return self.value


def refused(bad_keys: BadKeys, address: str | None, times: int) -> list[int]:
    return [seconds for _ in range(times) if (seconds := bad_keys.count(address))]


def test_two_hundred_pass_and_the_next_waits_for_its_turn() -> None:
    clock = Clock()
    bad_keys = BadKeys(clock=clock)
    assert refused(bad_keys, "192.0.2.1", BAD_KEYS_PER_MINUTE) == []
    assert refused(bad_keys, "192.0.2.1", 3) == [1, 1, 1]
    clock.value += 3.0
    assert len(refused(bad_keys, "192.0.2.1", 20)) == 10
    clock.value += 60.0
    assert refused(bad_keys, "192.0.2.1", BAD_KEYS_PER_MINUTE) == []


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("127.0.0.1", "127.99.0.7", True),
        ("127.0.0.1", "::1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", None, False),
        ("127.0.0.1", None, False),
        (None, None, True),
        (None, "", True),
    ],
)
def test_what_one_caller_can_choose_among_is_one_address(one: str | None, other: str | None, *, are_one: bool) -> None:
    bad_keys = BadKeys(clock=Clock())
    refused(bad_keys, one, BAD_KEYS_PER_MINUTE)
    assert bool(bad_keys.count(other)) is are_one


def test_only_so_many_addresses_are_remembered_the_latest_ones() -> None:
    bad_keys = BadKeys(most_addresses=100, clock=Clock())
    refused(bad_keys, "192.0.2.1", BAD_KEYS_PER_MINUTE)
    for number in range(1, 200):
        bad_keys.count(str(IPv6Address(number << 64)))
        assert bad_keys.count("192.0.2.1"), "who goes on is not forgotten"
    assert len(bad_keys._buckets) == 100


def test_a_flood_is_logged_once_not_a_thousand_times(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    bad_keys = BadKeys(clock=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            bad_keys.count("192.0.2.1")
            clock.value += 0.1
    assert caplog.text.count("bad client keys a minute come from 192.0.2.1") == 1


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([str(IPv4Address(1 << 24)), "::1", "2001:db8::1"]),
            st.floats(0, 30, allow_nan=False),
            st.integers(0, 400),
        ),
        max_size=8,
    )
)
def test_in_no_stretch_of_time_do_more_pass_than_the_rate_allows(steps: list[tuple[str, float, int]]) -> None:
    clock = Clock()
    bad_keys = BadKeys(clock=clock)
    passed: dict[str, list[float]] = {}
    for address, pause, times in steps:
        clock.value += pause
        for _ in range(times):
            wait = bad_keys.count(address)
            assert 0 <= wait <= 1
            if not wait:
                passed.setdefault(address, []).append(clock.value)
    for moments in passed.values():
        for first in {*moments}:
            for last in {*moments}:
                number = sum(first <= moment <= last for moment in moments)
                assert number <= BAD_KEYS_PER_MINUTE * (1 + max(0.0, last - first) / 60) + 1e-6


@pytest.fixture
def states(tmp_path: Path) -> Iterator[tuple[State, State]]:
    """The state as two processes have it open."""
    path = tmp_path / "home" / "state.db"
    with State(path) as here, State(path) as elsewhere:
        yield here, elsewhere


@pytest.mark.anyio
async def test_beyond_the_limit_bad_keys_are_a_429_and_good_ones_pass(source: Source) -> None:
    async with running_gate(source, bad_keys=BadKeys(clock=Clock())) as gate, gate.open() as (reader, writer):
        request = gate.head(headers=BAD, length=2) + b"{}"
        for _ in range(BAD_KEYS_PER_MINUTE):
            writer.write(request)
            assert (await read_reply(reader)).status == 401
        writer.write(request)
        reply = await read_reply(reader)
        assert reply.status == 429
        assert error_of(reply.body)["type"] == "rate_limit_error"
        assert "good keys still pass" in error_of(reply.body)["message"]
        assert reply.all(ERROR_MARK) == [b"too_many_bad_keys"]
        assert reply.all(b"retry-after") == [b"1"]
        assert reply.all(b"x-should-retry") == [b"false"]
        assert (await gate.call(headers=[(b"x-api-key", b"sk-ant-api03-x")])).status == 429
        assert (await gate.call()).status == 200
        assert (await gate.call(headers=[*BAD, (b"authorization", b"Bearer " + gate.key)])).status == 200
        assert (await gate.call(headers=[(b"x-api-key", b"")])).status == 401, "no key is no bad key"
        assert (await gate.call(b"/healthz", BAD, method=b"GET")).status == 200


@pytest.mark.anyio
async def test_a_key_made_elsewhere_meanwhile_passes_from_a_throttled_address(
    source: Source, states: tuple[State, State]
) -> None:
    here, elsewhere = states
    async with running_gate(source, keys=here.keys, bad_keys=BadKeys(clock=Clock())) as gate:
        for _ in range(BAD_KEYS_PER_MINUTE + 1):
            reply = await gate.call(headers=BAD)
        assert reply.status == 429
        _, secret = await asyncio.to_thread(elsewhere.keys.create, "laptop")
        headers = [(b"x-api-key", secret.reveal().encode())]
        assert (await gate.call(headers=headers)).status == 200


@pytest.mark.anyio
async def test_all_who_come_over_unix_sockets_are_one_address(source: Source, tmp_path: Path) -> None:
    path = tmp_path / "run" / "gateway.sock"
    sock = await asyncio.to_thread(bind_unix, path, tmp_path / "locks")
    async with running_gate(source, sock=sock, bad_keys=BadKeys(clock=Clock())) as gate:
        statuses = set()
        for _ in range(BAD_KEYS_PER_MINUTE + 1):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(gate.head(headers=BAD, length=2) + b"{}")
            reply = await read_reply(reader)
            statuses.add(reply.status)
            writer.close()
        assert reply.status == 429
        assert statuses == {401, 429}
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(gate.head(length=2) + b"{}")
        assert (await read_reply(reader)).status == 200
        writer.close()
