from hypothesis import given
from hypothesis import strategies as st

from tokenferry.config_key import format_duration, keys_of, parse_duration
from tokenferry.settings import PoolSettings, ServerSettings


def test_a_duration_is_a_number_with_a_unit_or_of_seconds() -> None:
    said: dict[object, float] = {
        "30s": 30,
        "5m": 300,
        "2h": 7200,
        "90d": 7_776_000,
        "250ms": 0.25,
        "1.5h": 5400,
        "10 s": 10,
        "7": 7,
        0: 0,
        2.5: 2.5,
    }
    assert {text: parse_duration(text) for text in said} == said


def test_nothing_else_is_a_duration() -> None:
    others: list[object] = ["", "s", "5x", "-1s", "1e3s", "1m30s", " 5s", "5s\n", "\u0665s", True, None, []]
    assert [parse_duration(one) for one in (*others, float("nan"), float("inf"), 10**400, "9" * 400 + "d")] == [
        None
    ] * (len(others) + 4)


@given(st.integers(0, 10**9) | st.floats(0, 1e6).map(lambda value: round(value, 3)))
def test_what_is_written_reads_as_the_same_time(seconds: float) -> None:
    found = parse_duration(format_duration(seconds))
    assert found is not None
    assert abs(found - seconds) <= 1e-9 * max(seconds, 1)


def test_a_time_is_written_in_the_largest_unit_that_fits() -> None:
    assert [format_duration(one) for one in (0, 0.25, 30, 90, 120, 600, 7200, 86_400)] == [
        *("0s", "250ms", "30s", "90s", "2m", "10m", "2h", "1d")
    ]


def test_a_key_has_the_name_the_kind_and_the_default_of_its_field() -> None:
    strategy, timeout = (keys_of(PoolSettings)[name] for name in ("strategy", "total_timeout"))
    assert (strategy.kind, strategy.default, strategy.choices[:2]) == (
        "choice",
        "priority",
        ("priority", "round-robin"),
    )
    assert (timeout.kind, timeout.toml_value(timeout.default)) == ("duration", "2m")
    assert "caps" not in keys_of(PoolSettings)
    uds = keys_of(ServerSettings)["uds"]
    assert (uds.kind, uds.is_optional) == ("path", True)
