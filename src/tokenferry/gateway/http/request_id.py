import os
from typing import Final

from tokenferry.background import after_fork_in_child

_BYTES: Final = 12
_POOL: Final = 256

_pool: list[str] = []


def new_request_id() -> str:
    """Give an unguessable, unique id. Random bytes are read for many at once."""
    try:
        return _pool.pop()
    except IndexError:
        drawn = os.urandom(_BYTES * _POOL).hex()
        width = 2 * _BYTES
        _pool.extend(f"tf_{drawn[start : start + width]}" for start in range(0, len(drawn), width))
        return _pool.pop()


def _forget() -> None:
    _pool.clear()


after_fork_in_child(_forget)  # workers must not share the pool
