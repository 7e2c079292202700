"""Tables that sort and filter by links: all that a person chose is in the address."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from tokenferry.dashboard._visit import Visit

_Row = TypeVar("_Row")


class TableOrder:
    """The order of a table, from the query `sort=COLUMN` or `sort=-COLUMN`; others count as `first`.

    `columns` are the headings, `sorts` what rows are compared by; a column without one can't be sorted by.
    """

    def __init__(
        self,
        visit: Visit,
        columns: Mapping[str, str],
        sorts: Mapping[str, Callable[[Any], Any]],
        *,
        first: str,
    ) -> None:
        asked = visit.query.get("sort", "")
        self._query = dict(visit.query)
        self._sorts = sorts
        self.columns = columns
        self.is_descending = asked.startswith("-")
        self.column = asked.removeprefix("-")
        if self.column not in sorts:
            self.column, self.is_descending = first, False

    def sorted(self, rows: Iterable[_Row]) -> list[_Row]:
        return sorted(rows, key=self._sorts[self.column], reverse=self.is_descending)

    def link(self, column: str) -> str | None:
        """Where a heading leads: to the order by it, or the other way round; None if it can't be sorted by."""
        if column not in self._sorts:
            return None
        is_turned = column == self.column and not self.is_descending
        return self.query(sort=f"-{column}" if is_turned else column)

    def direction(self, column: str) -> str | None:
        """What `aria-sort` says of a heading; None where the table isn't sorted by it."""
        if column != self.column:
            return None
        return "descending" if self.is_descending else "ascending"

    def query(self, **changes: str) -> str:
        """The address of the same table with these changes; an empty value removes its part."""
        kept = {name: value for name, value in {**self._query, **changes}.items() if value}
        return f"?{urlencode(kept)}" if kept else "?"
