from typing import Any

import pytest

from refresh.rig import START, document, token
from tokenferry.credentials import ApiKey
from tokenferry.refresh import RefreshRequest, is_of_unknown_age, log_in_again
from tokenferry.secret import Secret
from tokenferry.stores import Account, Document

OLD, NEW = token(3600), token(3600, 1)


@pytest.mark.parametrize("wish", ["refused", "superseded"])
def test_only_another_token_satisfies_who_wants_this_one_replaced(wish: str) -> None:
    wishes: dict[str, Any] = {wish: Secret("access-0").sha256}
    job = RefreshRequest("work", **wishes)
    assert not job.is_satisfied_by(document(OLD), START)
    assert job.is_satisfied_by(document(NEW), START)
    assert not job.is_satisfied_by(document(token(-1, 1)), START)


def test_a_key_satisfies_whoever_does_not_want_it_replaced() -> None:
    key = Document(Account("work", "fake", "api-key"), ApiKey(Secret("sk-key")))
    assert RefreshRequest("work", needs=3600).is_satisfied_by(key, START)
    assert not RefreshRequest("work", refused=key.credential.secret.sha256).is_satisfied_by(key, START)


@pytest.mark.parametrize(("left", "is_enough"), [(0, False), (60, False), (61, True)])
def test_a_token_satisfies_with_more_life_than_is_needed(left: float, *, is_enough: bool) -> None:
    assert RefreshRequest("work", needs=60).is_satisfied_by(document(token(left)), START) == is_enough
    assert RefreshRequest("work").is_satisfied_by(document(token(left)), START) == (left > 0)


def test_nothing_satisfies_who_wants_a_grant_whatever_there_is() -> None:
    assert not RefreshRequest("work", forced=True).is_satisfied_by(document(NEW), START)


def test_only_our_own_token_family_of_no_known_end_is_renewed_at_first_use() -> None:
    assert is_of_unknown_age(document(token(None)))
    assert not is_of_unknown_age(document(token(3600)))
    assert not is_of_unknown_age(document(token(None, refresh=None)))
    assert not is_of_unknown_age(document(token(None), owner="external"))


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({}, "tokenferry login work"),
        ({"kind": "exchanged"}, "tokenferry login work"),
        ({"kind": "federated"}, "tokenferry refresh work"),
        ({"owner": "claude-code"}, "claude /login"),
        ({"owner": "ant"}, "ant auth login --profile work"),
        ({"owner": "ant", "labels": {"profile": "team"}}, "ant auth login --profile team"),
        ({"owner": "external"}, "in the program that it comes from"),
    ],
)
def test_a_login_is_renewed_by_its_owner(changes: dict[str, Any], command: str) -> None:
    assert command in log_in_again(Account(**({"name": "work", "provider": "fake", "kind": "oauth"} | changes)))
