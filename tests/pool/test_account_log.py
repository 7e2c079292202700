"""What the log tells: one line for each change, however many requests meet it."""

import logging
import re

import pytest

from pool import runs as j


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tokenferry")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelno for record in caplog.records} <= {logging.INFO}
    return [record.getMessage() for record in caplog.records]


def test_a_limit_an_exhaustion_and_the_recovery_are_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    rig = j.Rig(("a", "b"))
    at_once = [rig.run() for _ in range(5)]
    for run in at_once:
        run.next()
    for run in at_once:
        j.reply(run, j.limited(600))
    assert rig.serve(j.ANY, j.limited(600)) == ["b"]
    for _ in range(5):
        assert rig.serve() == []
    limited, other, exhausted = lines(caplog)
    assert re.fullmatch(
        r"account a is in cooldown until 2027-01-15 08:1\d:\d\d UTC: The account has used up its window 5h", limited
    )
    assert other.startswith("account b is in cooldown until ")
    assert exhausted.startswith("no account can serve this now (a: ")
    caplog.clear()
    rig.clock.pass_by(700)
    assert [rig.serve(), rig.serve()] == [["a"], ["a"]]
    assert lines(caplog) == ["account a works again: window is over"]


def test_a_lasting_exhaustion_is_logged_once_a_minute_and_the_next_one_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = j.Rig(("a",))
    assert rig.serve(j.ANY, j.limited(7000)) == ["a"]
    for seconds in (0, 30, 31, 30):
        rig.clock.pass_by(seconds)
        rig.serve(j.ANY, j.limited(7000))
    assert [line[:29] for line in lines(caplog)].count("no account can serve this now") == 2
    rig.clock.pass_by(7000)
    assert rig.serve() == ["a"]
    caplog.clear()
    rig.serve(j.ANY, j.limited(7000, now=rig.clock.wall))
    rig.serve(j.ANY, j.limited(7000, now=rig.clock.wall))
    assert [line[:29] for line in lines(caplog)].count("no account can serve this now") == 1


def test_an_answer_that_was_under_way_when_the_limit_came_is_no_recovery(caplog: pytest.LogCaptureFixture) -> None:
    rig = j.Rig(("a", "b"))
    early, late = rig.run(), rig.run()
    early.next()
    late.next()
    j.reply(late, j.limited(600))
    j.reply(early, j.OK)
    assert [line.partition(" until ")[0] for line in lines(caplog)] == ["account a is in cooldown"]


def test_a_successful_probe_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.limited())
    caplog.clear()
    rig.clock.pass_by(61)
    assert rig.serve() == ["a"]
    assert rig.serve() == ["a"]
    assert lines(caplog) == ["account a works again: window is over"]


def test_a_provider_that_fails_is_no_accounts_news(caplog: pytest.LogCaptureFixture) -> None:
    rig = j.Rig(("a", "b"))
    for _ in range(5):
        rig.serve(j.ANY, j.FAILED, j.OVERLOADED)
    assert lines(caplog) == []


def test_a_recovery_is_logged_though_another_account_served_meanwhile(caplog: pytest.LogCaptureFixture) -> None:
    rig = j.Rig(("a", "b"))
    assert rig.serve(j.ANY, j.limited(600)) == ["a", "b"]
    assert rig.serve() == ["b"]
    rig.clock.pass_by(700)
    assert rig.serve() == ["a"]
    assert lines(caplog)[1:] == ["account a works again: window is over"]


def test_an_exhaustion_after_a_good_answer_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = j.Rig(("a",))
    for _ in range(2):
        assert rig.serve(j.ANY, j.limited(1, now=rig.clock.wall)) == ["a"]
        rig.clock.pass_by(40)
        assert rig.serve() == ["a"]
    assert [line[:29] for line in lines(caplog)].count("no account can serve this now") == 2


def test_a_cooldown_without_an_end_is_logged_so(caplog: pytest.LogCaptureFixture) -> None:
    j.Rig(("a", "b")).serve(j.ANY, j.REFUSED)
    assert lines(caplog)[0].startswith("account a is in cooldown with no known end: ")
