import random
import threading

import pytest

from refresh.rig import START, token
from tokenferry.credentials import ApiKey
from tokenferry.refresh import WarmCredentials, fresh_until
from tokenferry.secret import Secret
from tokenferry.settings import RefreshSettings

OLD, NEW = ApiKey(Secret("old")), ApiKey(Secret("new"))


def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    warm = WarmCredentials()
    revision = warm.revision
    warm.forget(["a"])
    warm.keep(["a"], OLD, START, revision)
    assert warm.holds("a") is None
    warm.keep(["a", None], NEW, START, warm.revision)
    assert warm.holds("a") is warm.holds(None) is NEW


def test_forgetting_any_account_forgets_which_one_no_name_picks() -> None:
    warm = WarmCredentials()
    warm.keep(["a", None], OLD, START, warm.revision)
    warm.forget(["b"])
    assert warm.holds("a") is OLD
    assert warm.holds(None) is None


def test_the_accounts_that_hold_a_secret_are_known() -> None:
    warm = WarmCredentials()
    warm.keep(["a", None], OLD, START, warm.revision)
    warm.keep(["b"], ApiKey(Secret("old")), START, warm.revision)
    warm.keep(["c"], NEW, START, warm.revision)
    assert sorted(warm.names_of(OLD.secret)) == ["a", "b"]


def test_whatever_the_threads_do_nothing_older_than_the_last_change_stays() -> None:
    """Readers keep what they read, a writer changes it and says so: in the end the last version is kept, or none."""
    warm, versions = WarmCredentials(), [ApiKey(Secret(f"v{number}")) for number in range(300)]
    current = [versions[0]]
    over = threading.Event()

    def read() -> None:
        dice = random.Random()
        while not over.is_set():
            revision = warm.revision
            seen = current[0]
            if dice.random() < 0.5:
                over.wait(0.0001)
            warm.keep(["a"], seen, START, revision)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for version in versions:
        current[0] = version
        warm.forget(["a"])
    over.set()
    for reader in readers:
        reader.join()
    assert warm.holds("a") in {None, versions[-1]}


@pytest.mark.parametrize(
    ("left", "lifetime", "fresh"),
    [
        (3600, 28_800, 3300),
        (301, 28_800, 1),
        (300, 28_800, 5),
        (33, 28_800, 3),
        (10, 28_800, -20),
        (60, 60, 30),
        (31, 60, 1),
        (30, 60, 0),
        (None, None, float("inf")),
    ],
)
def test_until_when_a_token_is_handed_out_without_a_look(left: float | None, lifetime: int, fresh: float) -> None:
    assert fresh_until(token(left, lifetime=lifetime), START, RefreshSettings()) == START + fresh


def test_a_key_is_fresh_for_ever() -> None:
    assert fresh_until(OLD, START, RefreshSettings()) == float("inf")


def test_a_key_that_a_command_prints_is_fresh_until_its_end() -> None:
    assert fresh_until(ApiKey(Secret("key"), until=START + 60), START, RefreshSettings()) == START + 60
