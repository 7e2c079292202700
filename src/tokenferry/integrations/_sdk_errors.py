"""Our errors in a form that the vendors' SDKs raise unchanged. They retry others and report "Connection error."."""

import sys
from functools import cache
from typing import Any, Final

from tokenferry.errors import TokenferryError

_FAMILIES: Final = (("anthropic", "AnthropicError"), ("openai", "OpenAIError"))


def for_sdks(fault: TokenferryError) -> TokenferryError:
    """The same error, also of the family of each SDK that this process has imported."""
    families = tuple(getattr(sys.modules[name], error) for name, error in _FAMILIES if name in sys.modules)
    if not families:
        return fault
    kind = _class_for(type(fault), families)  # type: ignore[arg-type]  # a class is hashable, whatever its instances
    error = kind.__new__(kind, *fault.args)
    error.__dict__.update(fault.__dict__)
    return error


@cache
def _class_for(kind: type[TokenferryError], families: tuple[type[Exception], ...]) -> type[TokenferryError]:
    def reduce(error: TokenferryError) -> tuple[Any, ...]:
        return kind, error.args, error.__dict__

    return type(kind.__name__, (kind, *families), {"__module__": kind.__module__, "__reduce__": reduce})
