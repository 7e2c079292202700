"""Tables that sort and filter by links, so that every choice is in the address."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from tokenferry.dashboard._visit import Visit

_Row = TypeVar("_Row")


class TableOrder:
    """The order of a table, from the query `sort=COLUMN` or `sort=-COLUMN`; by default `first`.

    `columns` are the headings, `sorts` the keys by which rows are compared; a column without one isn't sortable.
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
        """Return a heading's link, which sorts by it or reverses the order; None if it isn't sortable."""
        if column not in self._sorts:
            return None
        is_turned = column == self.column and not self.is_descending
        return self.query(sort=f"-{column}" if is_turned else column)

    def direction(self, column: str) -> str | None:
        """Return a heading's `aria-sort`; None if the table isn't sorted by it."""
        if column != self.column:
            return None
        return "descending" if self.is_descending else "ascending"

    def query(self, **changes: str) -> str:
        """Return the query of the same table with these changes; an empty value removes a part."""
        query = {name: value for name, value in {**self._query, **changes}.items() if value}
        return f"?{urlencode(query)}"
