"""Moves of logins between our accounts and another program's own store."""

from tokenferry.claude_code.moves._mover import Moved, Mover, Present
from tokenferry.claude_code.moves._record import MoveFile, MoveRecord

__all__ = ["MoveFile", "MoveRecord", "Moved", "Mover", "Present"]
