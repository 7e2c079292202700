import pytest

from tokenferry.limits import LimitState, Window

RESET = 1_800_000_000.0


@pytest.mark.parametrize(
    ("name", "length", "is_of_family"),
    [
        ("5h", 18_000, False),
        ("7d", 604_800, False),
        ("7d_sonnet", 604_800, True),
        ("7d_oi", 604_800, True),
        ("30m", 1800, False),
        ("5hours", 604_800, False),
        ("month", 604_800, False),
    ],
)
def test_a_window_tells_its_length_and_kind_by_its_name(name: str, length: int, *, is_of_family: bool) -> None:
    assert (Window(name).length, Window(name).is_of_family) == (length, is_of_family)


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        ("five_hour", "5h"),
        ("seven_day", "7d"),
        ("seven_day_sonnet", "7d_sonnet"),
        ("seven_day_overage_included", "7d_oi"),
    ],
)
def test_a_claim_names_the_rejected_window_where_no_window_does(claim: str, name: str) -> None:
    state = LimitState(status="rejected", representative_claim=claim, reset=RESET, windows=(Window("1h", "allowed"),))
    assert state.rejected == (Window(name, "rejected", RESET),)


def test_a_claimed_window_keeps_what_is_known_of_it() -> None:
    windows = (Window("5h", reset=RESET - 9, utilization=1.1),)
    state = LimitState(status="rejected", representative_claim="five_hour", reset=RESET, windows=windows)
    assert state.rejected == (Window("5h", "rejected", RESET - 9, 1.1),)


@pytest.mark.parametrize("claim", ["", "overage", "five_hours", "next_moon"])
def test_a_claim_that_names_no_window_rejects_none(claim: str) -> None:
    assert LimitState(status="rejected", representative_claim=claim, reset=RESET).rejected == ()


def test_a_window_that_says_it_is_free_is_not_rejected_by_a_claim() -> None:
    windows = (Window("5h", "allowed", RESET),)
    assert LimitState(status="rejected", representative_claim="five_hour", windows=windows).rejected == ()


def test_what_is_allowed_rejects_nothing_by_its_claim() -> None:
    assert LimitState(status="allowed", representative_claim="five_hour", reset=RESET).rejected == ()


@pytest.mark.parametrize(
    ("claim", "status", "bills"),
    [
        ("overage", "allowed", True),
        ("overage", "allowed_warning", True),
        ("overage", "rejected", False),
        ("five_hour", "allowed", False),
    ],
)
def test_requests_are_billed_where_overage_is_allowed_and_claimed(claim: str, status: str, *, bills: bool) -> None:
    assert LimitState(representative_claim=claim, overage=Window("overage", status)).bills_overage is bills
    assert not LimitState(representative_claim=claim).bills_overage
