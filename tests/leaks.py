"""Finds a secret in all that an exception lets a log, a person or an error tracker see."""

import base64
from collections.abc import Iterator

TELLING = 20


def traces(value: str) -> tuple[str, ...]:
    """What must be seen nowhere: the value, its beginning, and base64 of it."""
    return value, value[:TELLING], base64.b64encode(value.encode()).decode()[:-4]


def shows(text: str, *values: str) -> list[str]:
    return [trace for value in values for trace in traces(value) if trace in text]


def leaks(error: BaseException, *values: str) -> list[str]:
    """Where the error shows one of the values: its text, what it hides as context, and the locals of every frame."""
    return [f"{where}: {trace}" for where, text in _visible(error) for trace in shows(text, *values)]


def _visible(error: BaseException) -> Iterator[tuple[str, str]]:
    queue, seen = [error], set[int]()
    while queue:
        current = queue.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        queue += filter(None, (current.__cause__, current.__context__))
        yield f"{type(current).__name__} text", f"{current} {current!r} {current.args!r}"
        trace = current.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            if "/tests/" not in code.co_filename:  # the test itself knows the secret
                for name, value in trace.tb_frame.f_locals.items():
                    yield f"local {name} of {code.co_qualname}", repr(value)
            trace = trace.tb_next
