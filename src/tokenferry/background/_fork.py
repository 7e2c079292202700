import logging
import os
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

logger = logging.getLogger(__name__)

_callbacks: dict[weakref.ref[Any], None] = {}


def after_fork_in_child(callback: Callable[[], object]) -> None:
    """Have `callback` called in every child that this process forks, in the order of registration.

    It is held weakly: that of a bound method ends with its object, so a lambda would be gone at once. A callback that
    raises is logged and the next one runs. Children are not reset if they are forked behind Python's back (by a C
    library), nor if they execute another program. A callback must take no lock of the parent: the thread that held it
    may not exist in the child.
    """
    kind = weakref.WeakMethod if isinstance(callback, MethodType) else weakref.ref
    _callbacks[kind(callback, _forget)] = None


def _forget(reference: "weakref.ref[Any]") -> None:
    _callbacks.pop(reference, None)


def _run() -> None:
    for reference in list(_callbacks):
        if (callback := reference()) is None:
            continue
        try:
            callback()
        except Exception:
            logger.exception("%s failed after a fork", callback.__qualname__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run)
