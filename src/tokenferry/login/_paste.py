import os
import select
from typing import Final

_LONGEST: Final = 16 * 1024
_MOST_LINES: Final = 100
_PAUSE: Final = 0.25  # seconds after which a paste has ended


class Paste:
    """Lines from a descriptor, as they come; nothing is read beyond what is there."""

    def __init__(self, descriptor: int, *, is_typed: bool | None = None) -> None:
        """Of a terminal, what follows at once belongs to the same paste. Of a program, each line is one."""
        self._descriptor = descriptor
        self._is_typed = os.isatty(descriptor) if is_typed is None else is_typed
        self._rest = bytearray()
        self.is_over = False

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> list[list[str]]:
        """The pastes that are there by now, each as its lines: whole ones, without blanks around them, none empty.

        To be called when the descriptor can be read; a terminal gives one line at a time. At its end the last line
        counts, too.
        """
        found: list[bytes] = []
        while not self.is_over:
            try:
                data = os.read(self._descriptor, _LONGEST)
            except OSError:  # Linux's word for a terminal that is gone
                data = b""
            self.is_over = not data
            self._rest += data or b"\n"
            *whole, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest[:_LONGEST])
            found = [*found, *whole][:_MOST_LINES]
            if not self.is_over and not (self._is_typed and found and select.select([self], [], [], _PAUSE)[0]):
                break
        lines = [text for line in found if (text := line.decode("utf-8", "replace").strip())]
        return [lines] if self._is_typed and lines else [[line] for line in lines]
