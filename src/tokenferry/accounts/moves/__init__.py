"""Logins on their way between our accounts and another program's own store."""

from tokenferry.accounts.moves._mover import Moved, Mover, Present
from tokenferry.accounts.moves._record import MoveFile, MoveRecord
from tokenferry.accounts.moves._transfer import CLAUDE_CODE, FOLDER_LABEL

__all__ = ["CLAUDE_CODE", "FOLDER_LABEL", "MoveFile", "MoveRecord", "Moved", "Mover", "Present"]
