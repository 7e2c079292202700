import gc
import os
from collections.abc import Callable

import pytest

from tokenferry.background import after_fork_in_child

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


class Thing:
    def __init__(self, name: str, called: list[str]) -> None:
        self.name = name
        self.called = called
        after_fork_in_child(self.forget)

    def forget(self) -> None:
        self.called.append(self.name)
        if self.name == "broken":
            raise ValueError(self.name)


def holds_in_child(check: Callable[[], bool]) -> bool:
    if (child := os.fork()) == 0:
        os._exit(7 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_callbacks_run_in_the_child_in_their_order_though_one_fails() -> None:
    called: list[str] = []
    things = [Thing(name, called) for name in ("one", "broken", "two")]
    assert holds_in_child(lambda: called == ["one", "broken", "two"])
    assert called == []
    assert len(things) == 3


def test_a_callback_is_gone_with_its_object() -> None:
    called: list[str] = []
    one, two = Thing("one", called), Thing("two", called)
    del one
    gc.collect()
    assert holds_in_child(lambda: called == ["two"])
    assert two.called is called


_reset: list[int] = [1]


def clear() -> None:
    _reset.clear()


def test_a_function_is_called_too() -> None:
    after_fork_in_child(clear)
    assert holds_in_child(lambda: not _reset)
    assert _reset
