from collections.abc import Callable, Iterable

from tokenferry.routing._loggable import loggable
from tokenferry.routing._router import NoRoute
from tokenferry.state import ClientKey


def model_denied(
    key: ClientKey,
    names: Iterable[str | None],
    bare_name: Callable[[ClientKey, str], str | None] = lambda _key, _name: None,
) -> NoRoute | None:
    """Refuse the first model that the key may not use; give None if it may use all.

    `names` are all models that the client names in the request; None stands for a request without a model. Models that
    the configuration maps them to are not checked. `bare_name` gives a name without a provider's prefix, which is
    allowed if the bare name is.
    """
    rights = key.rights
    if not rights.models:
        return None
    for name in names:
        if not rights.allows_model(name) and not (
            name is not None and (bare := bare_name(key, name)) is not None and rights.allows_model(bare)
        ):
            asked = "ask without naming a model" if name is None else f"use model {loggable(name) or 'of that name'}"
            message = f"client key {key.name} may not {asked}; it may use {', '.join(rights.models)}"
            return NoRoute(400, message, "model_denied")
    return None
