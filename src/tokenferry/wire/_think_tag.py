from typing import Final

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class ThinkTag:
    """Parts a text that may begin with `<think>…</think>`, however it is cut into pieces."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "before"

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Give what is certain now: whether it is reasoning, and the text."""
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
        kept = next((size for size in range(len(_CLOSE) - 1, 0, -1) if inside.endswith(_CLOSE[:size])), 0)
        self._held = inside[len(inside) - kept :]
        inside = inside[: len(inside) - kept]
        return [(True, inside)] if inside else []

    def end(self) -> list[tuple[bool, str]]:
        """Give what is held back, when the text has ended."""
        return self._release()

    def _release(self) -> list[tuple[bool, str]]:
        held, within, self._held = self._held, self._state == "inside", ""
        if not within:
            self._state = "after"
        return [(within, held)] if held else []
