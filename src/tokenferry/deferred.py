"""Names of a room that are imported when they are first used (PEP 562): who does not need them spends nothing."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def deferred(room: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """Give the `__getattr__` of a room. `names` are those that each of its modules brings."""
    modules = {name: module for module, brought in names.items() for name in brought}

    def get(name: str) -> object:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        value = getattr(import_module(f"{room}.{module}"), name)
        setattr(sys.modules[room], name, value)
        return value

    return get
