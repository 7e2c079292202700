"""Accounts in the output of commands."""

from typing import Final

from tokenferry.broker import Broker
from tokenferry.cli._output import note
from tokenferry.cli._table import Cell, Column
from tokenferry.readiness import TONES, AccountRow, account_row, account_rows

COLUMNS: Final = (
    Column("name"),
    Column("use"),
    Column("provider"),
    Column("kind", wide=True),
    Column("owner", wide=True),
    Column("fingerprint", wide=True),
    Column("state", folds=True),
)


def rows(broker: Broker, now: float | None = None) -> list[AccountRow]:
    """Every account. A file besides them that can't be read is reported on stderr."""
    return account_rows(broker, now, tell=note)


def row(broker: Broker, name: str, now: float | None = None) -> AccountRow:
    """One account; see `rows`. Raises `UnknownAccount`, `UnsafeFile`, `CorruptFile`."""
    return account_row(broker, name, now, tell=note)


def cells(one: AccountRow) -> tuple[str, ...]:
    """The cells for `COLUMNS`. Only the last may contain blanks."""
    mark = "*" if one.is_active else "-"
    text = f"{one.text} ({one.note})" if one.note and one.document is not None else one.text
    state = Cell(text, TONES.get(one.word))
    if one.header is not None:
        locked = one.header.account
        return one.name, mark, locked.provider, locked.kind, locked.owner, one.header.fingerprint, state
    if one.document is None:
        return one.name, mark, "-", "-", "-", "-", state
    account = one.document.account
    fingerprint = one.document.credential.secret.fingerprint
    return one.name, mark, account.provider, account.kind, account.owner, fingerprint, state
