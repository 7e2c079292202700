"""Logins on their way between our accounts and another program's own store."""

from tokenferry.accounts.moves._mover import Moved, Mover, Present
from tokenferry.accounts.moves._record import MoveFile, MoveRecord

__all__ = ["MoveFile", "MoveRecord", "Moved", "Mover", "Present"]
