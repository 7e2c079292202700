from collections.abc import Iterable

from tokenferry.providers import Table


def ignore(table: Table, keys: Iterable[str], *, instead: str = "") -> None:
    """Accept keys of claude-code-mux without a meaning here, and note each that is present."""
    effect = "is a key of claude-code-mux that has no effect here" + (instead and f"; {instead}")
    for key in keys:
        if table.ignore(key):
            table.note(key, effect)
