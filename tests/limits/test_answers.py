"""Every recorded answer means what is written beside it."""

import json
from pathlib import Path
from random import Random

import pytest

from tokenferry.cli._raw_answer import read_raw_answer
from tokenferry.limits import classify, cooldown_until
from tokenferry.limits._rules import AFTER_CONTENT, RULES

ANSWERS = Path(__file__).with_name("answers")
NAMES = sorted(path.stem for path in ANSWERS.glob("*.http"))


def test_there_are_answers_and_each_has_its_meaning_beside_it() -> None:
    assert len(NAMES) > 50
    assert sorted(path.stem for path in ANSWERS.glob("*.json")) == NAMES


def test_every_rule_has_an_answer() -> None:
    meant = [json.loads((ANSWERS / f"{name}.json").read_text()) for name in NAMES]
    keys = ("scope", "models", "cause", "action")
    reported = {tuple(one[key] for key in keys) for one in meant}
    assert {tuple(getattr(rule, key) for key in keys) for rule in (*RULES, AFTER_CONTENT)} == reported


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_means_what_is_written_beside_it(name: str) -> None:
    answer = read_raw_answer((ANSWERS / f"{name}.http").read_bytes())
    expected = json.loads((ANSWERS / f"{name}.json").read_text())
    now = answer.sent_at
    assert now is not None
    verdict = classify(
        answer.status, answer.headers, answer.body, now=now, provider_format=expected.get("format", "anthropic")
    )
    reported = {key: getattr(verdict, key) for key in ("scope", "models", "cause", "action", "hold")}
    assert reported == {key: expected[key] for key in reported}
    if expected["until"] is None:
        assert verdict.until is None
    else:
        assert verdict.until == pytest.approx(expected["until"], abs=1)
    assert verdict.reason.endswith(".")
    assert "{" not in verdict.reason
    until = cooldown_until(verdict, now=now, failures=0, rng=Random(1))
    assert (until is None) == (verdict.hold in {"indefinite", "login"})
