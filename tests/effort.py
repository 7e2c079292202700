"""How much chance a test is given: `make test` draws a part of what `make test-full` draws."""

import os
from typing import Final

FULL: Final = os.environ.get("TOKENFERRY_TESTS") == "full"

STRIDE: Final = 1 if FULL else 3
"""Between the steps at which a test of deaths lets a process die: every step with `make test-full`."""

_SHARE: Final = 5
_LEAST: Final = 20


def effort(examples: int) -> int:
    """So many examples with `make test-full`, else a fifth of them, but 20 at least where there are as many."""
    return examples if FULL else min(examples, max(_LEAST, examples // _SHARE))
