"""Imports names of a package on first use (PEP 562), so that an unused one costs nothing."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def deferred(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """Give the `__getattr__` of a package. `names` maps its modules to the names that they define."""
    modules = {name: module for module, defined in names.items() for name in defined}

    def get(name: str) -> object:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{module}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
