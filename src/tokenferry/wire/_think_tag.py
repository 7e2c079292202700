"""Separates reasoning that a model writes into its text."""

from typing import Final

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class ThinkTag:
    """Separates `<think>…</think>` at the beginning of a text from the rest. Fragments may be cut anywhere."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "before"

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Give each piece that is certain now, as whether it is reasoning, and the text."""
        if self._state == "gap":
            text = text.lstrip("\n")
            self._state = "after" if text else "gap"
        if self._state in {"gap", "after"}:
            return [(False, text)] if text else []
        self._held += text
        if self._state == "before":
            beginning = self._held.lstrip()
            if not beginning.startswith(_OPEN):
                return [] if _OPEN.startswith(beginning) else self._release()
            self._state, self._held = "inside", beginning[len(_OPEN) :]
        inside, mark, after = self._held.partition(_CLOSE)
        if mark:
            self._state, self._held = "gap", ""
            return [*([(True, inside)] if inside else []), *self.feed(after)]
        partial = next((size for size in range(len(_CLOSE) - 1, 0, -1) if inside.endswith(_CLOSE[:size])), 0)
        self._held = inside[len(inside) - partial :]
        inside = inside[: len(inside) - partial]
        return [(True, inside)] if inside else []

    def end(self) -> list[tuple[bool, str]]:
        """Give what is held back at the end of the text."""
        return self._release()

    def _release(self) -> list[tuple[bool, str]]:
        held, within, self._held = self._held, self._state == "inside", ""
        if not within:
            self._state = "after"
        return [(within, held)] if held else []
