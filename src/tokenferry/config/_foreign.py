from collections.abc import Iterable

from tokenferry.providers import Table


def ignore(table: Table, keys: Iterable[str], notes: list[str], *, instead: str = "") -> None:
    """Accept keys of claude-code-mux that mean nothing here, and note each that is there."""
    effect = "is a key of claude-code-mux that has no effect here" + (instead and f"; {instead}")
    notes.extend(f"{table.at(key)} {effect}" for key in keys if key in table and table.ignore(key))
