import os
from typing import Final

_LONGEST: Final = 16 * 1024


class Paste:
    """Lines from a descriptor, as they come; nothing is read beyond what is there."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = bytearray()
        self.is_over = False

    def fileno(self) -> int:
        return self._descriptor

    def lines(self) -> list[str]:
        """The lines that are whole by now, without blanks around them; empty ones are left out.

        To be called when the descriptor can be read. At its end the last line counts, too.
        """
        try:
            data = os.read(self._descriptor, _LONGEST)
        except OSError:  # Linux's word for a terminal that is gone
            data = b""
        self.is_over = not data
        self._rest += data or b"\n"
        *whole, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest[:_LONGEST])
        lines = (line.decode("utf-8", "replace").strip() for line in whole)
        return [line for line in lines if line]
