"""Ids of calls and names of tools, in the forms that formats and vendors accept."""

import re

import pytest

from tokenferry.wire._ids import IdForm, call_id

LONG = "toolu_" + "a" * 40


@pytest.mark.parametrize(
    ("form", "known", "pattern"),
    [
        ("short", "toolu_1", "toolu_1"),
        ("short", LONG, r"[A-Za-z0-9_-]{1,40}"),
        ("short", "functions.get:0", r"[A-Za-z0-9_-]{1,40}"),
        ("nine", "toolu_1", r"[A-Za-z0-9]{9}"),
        ("any", LONG, LONG),
        ("any", "functions.get:0", r"[A-Za-z0-9_-]{1,40}"),
    ],
)
def test_an_id_has_its_form_and_stays_if_it_fits(form: IdForm, known: str, pattern: str) -> None:
    found = call_id(known, form)
    assert re.fullmatch(pattern, found)
    assert found == call_id(known, form)
    assert call_id(f"{known}x", form) != found
