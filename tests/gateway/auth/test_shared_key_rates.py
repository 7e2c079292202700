"""The rates of client keys that gateways of several hosts serve."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from tokenferry.errors import StorageFailed
from tokenferry.gateway import RateExchange, SharedKeyRates
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.rates import FleetRates, RateReport, Share, SubjectUse
from tokenferry.state import ClientKey, key_caps

pytestmark = pytest.mark.anyio

KEY = ClientKey("key_1", "laptop", "client", 0, "", caps=key_caps(requests_per_minute=8))


class Rates(SharedKeyRates):
    """Says when it has an answer about a key."""

    def __init__(self) -> None:
        super().__init__()
        self.adopted = asyncio.Event()

    def adopt(self, found: FleetRates) -> None:
        super().adopt(found)
        if found.uses:
            self.adopted.set()


class Others:
    """The other hosts, as they are seen through the database."""

    def __init__(self) -> None:
        self.owed = 0.0
        self.workers = 2
        self.is_away = False
        self.heard = asyncio.Event()
        self.left = 0
        self._loop = asyncio.get_running_loop()

    def exchange(self, reports: Sequence[RateReport]) -> FleetRates:
        if self.is_away:
            self._loop.call_soon_threadsafe(self.heard.set)
            raise StorageFailed("the database is away")
        self.owed += sum(one.requests for one in reports)
        return FleetRates(Share(0, self.workers), {one.subject: SubjectUse(self.owed, 0, 0) for one in reports})

    def leave(self) -> None:
        self.left += 1


async def test_what_is_let_through_is_reported_when_half_of_it_is_used() -> None:
    others, rates = Others(), Rates()
    exchange = RateExchange(rates, others)
    await exchange.start()
    for _ in range(2):
        rates.admit(KEY, 0)
    with pytest.raises(GatewayError, match=r"try again in 1 s \(8 requests a minute\)") as refused:
        rates.admit(KEY, 0)
    assert (refused.value.cause, refused.value.retry_after) == ("key_rate_limited", 1)
    await asyncio.wait_for(rates.adopted.wait(), 5)
    assert others.owed == 2
    others.owed = 8
    rates.adopted.clear()
    rates.wake()
    await asyncio.wait_for(rates.adopted.wait(), 5)
    with pytest.raises(GatewayError, match="is limited to 8 requests a minute"):
        rates.admit(KEY, 0)
    await exchange.stop()
    assert others.left == 1


async def test_one_line_says_that_the_others_are_not_heard(caplog: pytest.LogCaptureFixture) -> None:
    others, rates = Others(), Rates()
    exchange = RateExchange(rates, others)
    await exchange.start()
    others.is_away = True
    with caplog.at_level(logging.WARNING, "tokenferry"):
        for _ in range(2):
            rates.admit(KEY, 0)
            others.heard.clear()
            rates.wake()
            await asyncio.wait_for(others.heard.wait(), 5)
    others.is_away = False
    await asyncio.wait_for(rates.adopted.wait(), 5)
    assert others.owed == 2
    assert [one.getMessage() for one in caplog.records] == [
        "client keys have an even part of their rates here, until it is known again: the database is away"
    ]
    await exchange.stop()


async def test_while_the_others_are_not_heard_a_gateway_has_its_part_or_refuses_as_is_said() -> None:
    now, says = [1000.0], [False]
    rates = SharedKeyRates(lambda: now[0], refuses_away=lambda: says[0])
    rates.adopt(FleetRates(Share(0, 2), {}))
    rates.admit(KEY, 0)
    rates.lose(rates.reports())
    rates.admit(KEY, 0)
    now[0] += 60  # its part is 4 a minute
    for _ in range(4):
        rates.admit(KEY, 0)
    with pytest.raises(GatewayError, match="8 requests a minute"):
        rates.admit(KEY, 0)
    now[0] += 60
    says[0] = True
    with pytest.raises(GatewayError, match="rates of client key laptop") as refused:
        rates.admit(KEY, 0)
    assert (refused.value.status, refused.value.cause) == (503, "store_away")
    rates.adopt(FleetRates(Share(0, 2), {}))
    rates.lose(rates.reports())
    rates.admit(KEY, 0)  # a short outage refuses nothing
