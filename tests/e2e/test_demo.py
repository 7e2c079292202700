import re

import pytest

from e2e.parties import COMMAND, begin, end

pytestmark = pytest.mark.e2e


def test_the_demo_shows_a_race_a_limit_and_a_failover_and_ends_with_0() -> None:
    """It ends with 1 if the provider counted anything but one refresh, or if a request failed."""
    outcome = end(begin(COMMAND, "demo"))
    assert (outcome.code, outcome.err) == (0, "")
    assert "400 invalid_grant" in outcome.out
    assert "8 programs have the same token; the provider counted 1 refresh and no reuse" in outcome.out
    assert "you said: Which way across the river?" in outcome.out
    assert "the next request: 200" in outcome.out
    assert re.search(r"alice .* limited until ", outcome.out)
    assert re.search(r"alice with \w+ answered 429: .*on to the next account", outcome.out)
    assert re.search(r"bob with \w+ answered 200, which went to the client", outcome.out)
