import logging
import os
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

logger = logging.getLogger(__name__)

# By owner: the plain functions of its bound methods, or None for a function that is its own owner. A WeakMethod each
# would be simpler, but complains on standard error when its object goes while the interpreter shuts down.
_callbacks: "weakref.WeakKeyDictionary[Any, list[Callable[[Any], object] | None]]" = weakref.WeakKeyDictionary()


def after_fork_in_child(callback: Callable[[], object]) -> None:
    """Have `callback` called in every child that this process forks, by order of registration of objects.

    It is held weakly: that of a bound method ends with its object, so a lambda would be gone at once. A callback that
    raises is logged and the next one runs. Children are not reset if they are forked behind Python's back (by a C
    library), nor if they execute another program. A callback must take no lock of the parent: the thread that held it
    may not exist in the child.
    """
    owner, function = (callback.__self__, callback.__func__) if isinstance(callback, MethodType) else (callback, None)
    _callbacks.setdefault(owner, []).append(function)


def _run() -> None:
    for owner, functions in list(_callbacks.items()):
        for function in functions:
            try:
                owner() if function is None else function(owner)
            except Exception:
                logger.exception("%s failed after a fork", (function or owner).__qualname__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run)
