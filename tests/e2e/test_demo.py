import runpy
from pathlib import Path

import pytest

from e2e.parties import COMMAND

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_shows_a_race_a_limit_and_a_failover_as_the_pages_picture_does() -> None:
    """It ends with 1 if the provider counted anything but one refresh, or if a request failed."""
    script = runpy.run_path(str(ROOT / "scripts/recording.py"))
    said = script["steady"](script["recorded"]([COMMAND, "demo"]))
    assert "400 invalid_grant" in said
    assert "8 programs have the same token; the provider counted 1 refresh and no reuse" in said
    assert "you said: Which way across the river?" in said
    assert "the next request: 200" in said
    assert "  alice  -    sandbox   oauth  tokenferry  3e4f8319     limited until " in said
    assert "alice with 3e4f8319 answered 429: " in said
    assert "bob with 3e4f8319 answered 200, which went to the client" in said
    if script["PICTURE"].read_text() != script["svg"](said):
        pytest.fail("docs/images/demo.svg is out of date; record it with: make recording")
