"""What models are called where names must stay few."""

from typing import Final

from tokenferry.limits import OTHER, model_family

_MOST_FAMILIES: Final = 32


class ModelLabels:
    """The families there are: a bounded number, of models that an upstream has served."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._known: set[str] = set()

    def of(self, model: str | None, *, is_served: bool) -> str:
        """Give the model's family, or `other`. A name that no upstream has served yet takes no place."""
        if model is None:
            return ""
        known = self._names.get(model)
        if known is not None:
            return known
        found = model_family(model)
        if found not in self._known:
            if not is_served or len(self._known) >= _MOST_FAMILIES:
                return OTHER
            self._known.add(found)
        if is_served and len(self._names) < _MOST_FAMILIES * _MOST_FAMILIES:
            self._names[model] = found
        return found
