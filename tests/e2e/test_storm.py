"""Processes that refresh without end and are killed at random reuse a token only where a kill took its answer."""

import os
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from e2e.conftest import Tell
from e2e.issuer import Issuer
from e2e.parties import CHILDREN, PATIENCE, age_attempt, begin, digest, end, tokenferry
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

SECONDS = float(os.environ.get("STORM_SECONDS", "40"))
NEEDS_LOGIN = 5
TRY_LATER = 6


class Notes:
    """What the processes noted, in order."""

    def __init__(self, path: Path) -> None:
        self.presenters: dict[str, list[int]] = defaultdict(list)
        self.journalled: set[str] = set()
        self.killed: set[int] = set()
        self.given: dict[str, set[str]] = defaultdict(set)
        self.counts: Counter[str] = Counter()
        self.raised: Counter[str] = Counter()
        for line in path.read_text().splitlines():
            what, first, *rest = line.split()
            self.counts[what] += 1
            match what:
                case "presented":
                    self.presenters[first].append(int(rest[0]))
                case "journalled":
                    self.journalled.add(first)
                case "killed":
                    self.killed.add(int(first))
                case "given":
                    self.given[first].add(rest[0])
                case "raised":
                    self.raised[first] += 1


def test_kills_at_random_lose_no_more_than_they_must(issuer: Issuer, home: Home, tmp_path: Path, tell: Tell) -> None:
    issuer.settings(lifetime=2, before=10, after=10)
    path = tmp_path / "notes"
    arguments = [sys.executable, str(CHILDREN / "storm.py"), issuer.url, str(path), str(SECONDS), str(PATIENCE)]
    storm = end(begin(*arguments, PYTHONPATH=str(CHILDREN.parents[1])), patience=SECONDS + 2 * PATIENCE)
    assert storm.code == 0, storm.err
    notes = Notes(path)
    presentations = issuer.presentations()

    granted: Counter[str] = Counter()
    reused = []
    tokens: dict[str, set[str]] = defaultdict(set)
    for one in presentations:
        if not one.get("token"):  # its sender was killed before the request was whole
            continue
        if granted[one["token"]]:
            reused.append(one["token"])
        if one["outcome"] == "granted":
            granted[one["token"]] += 1
            tokens[one["account"]].add(one["granted"])
    lost = {token for token in granted if granted[token] and token not in notes.journalled}
    figures = {
        "seconds": SECONDS,
        "kills": notes.counts["killed"],
        "logins": notes.counts["login"],
        "refreshes": sum(granted.values()),
        "reuses": len(reused),
        "answers lost to a kill": len(lost),
        "raised": dict(notes.raised),
    }
    tell(f"storm: {figures}")

    assert notes.counts["killed"] > SECONDS
    assert sum(granted.values()) > SECONDS
    for token in reused:
        first, *later = notes.presenters[token]
        assert token in lost, "an answer that was journalled was asked for again"
        assert first in notes.killed
        assert len(later) == 1, "a token whose handling is unknown is presented once more, and no oftener"
    assert len(reused) <= len(lost)
    assert max(granted.values()) == 1
    assert {name: given - tokens[name] for name, given in notes.given.items() if given - tokens[name]} == {}

    issuer.settings(lifetime=3600, before=0, after=0)
    for name in notes.given:
        after = tokenferry("token", name)
        if after.code == TRY_LATER:  # the last kill may have cut a request short
            age_attempt(home, name)
            after = tokenferry("token", name)
        assert after.code in {0, NEEDS_LOGIN}, after
        assert after.code == NEEDS_LOGIN or issuer.knows(name, digest(after.out.strip()))
