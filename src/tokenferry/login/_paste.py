import os
import select
from typing import Final

_LONGEST: Final = 16 * 1024
_MOST_LINES: Final = 100
_PAUSE: Final = 0.25  # seconds after which a paste has ended


class Paste:
    """Lines pasted into a descriptor; reads only what is available."""

    def __init__(self, descriptor: int, *, is_typed: bool | None = None) -> None:
        """On a terminal, lines that follow at once belong to the same paste; from a program, each line is one."""
        self._descriptor = descriptor
        self._is_typed = os.isatty(descriptor) if is_typed is None else is_typed
        self._rest = bytearray()
        self.is_over = False

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> list[list[str]]:
        """Return the complete pastes read so far, each as its stripped, non-empty lines.

        Call it when the descriptor is readable. At end of file an unterminated last line counts, too.
        """
        found: list[bytes] = []
        while not self.is_over:
            try:
                data = os.read(self._descriptor, _LONGEST)
            except OSError:  # what Linux raises for a closed terminal
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
