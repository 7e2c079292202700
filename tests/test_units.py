import pytest

from tokenferry.units import moment, relative, short, span


def test_spans_show_their_largest_unit_and_moments_are_in_utc() -> None:
    assert [span(seconds) for seconds in (0, 59, 119, 120, 7200, 200_000)] == [
        "0 s",
        "59 s",
        "119 s",
        "2 min",
        "2 h",
        "2 d",
    ]
    assert moment(0) == "1970-01-01T00:00:00Z"
    assert moment(None) == "-"
    assert (relative(7200, 0), relative(0, 7200)) == ("in 2 h", "2 h ago")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (999_940, "999.9k"), (999_950, "1.0M"), (5 * 10**12, "5.0T")],
)
def test_a_number_of_tokens_is_six_characters_at_most(count: int, text: str) -> None:
    assert short(count) == text
    assert len(short(count)) <= 6
