from typing import Any

import pytest

from refresh.rig import START, document, token
from tokenferry.refresh import RefreshRequest, is_of_unknown_age
from tokenferry.secret import Secret

OLD, NEW = token(3600), token(3600, 1)


@pytest.mark.parametrize("wish", ["refused", "superseded"])
def test_only_another_token_satisfies_who_wants_this_one_replaced(wish: str) -> None:
    wishes: dict[str, Any] = {wish: Secret("access-0").sha256}
    job = RefreshRequest("work", **wishes)
    assert not job.is_satisfied_by(document(OLD), START)
    assert job.is_satisfied_by(document(NEW), START)
    assert not job.is_satisfied_by(document(token(-1, 1)), START)


def test_nothing_satisfies_who_wants_a_grant_whatever_there_is() -> None:
    assert not RefreshRequest("work", forced=True).is_satisfied_by(document(NEW), START)


def test_only_our_own_token_family_of_no_known_end_is_renewed_at_first_use() -> None:
    assert is_of_unknown_age(document(token(None)))
    assert not is_of_unknown_age(document(token(3600)))
    assert not is_of_unknown_age(document(token(None, refresh=None)))
    assert not is_of_unknown_age(document(token(None), owner="external"))
