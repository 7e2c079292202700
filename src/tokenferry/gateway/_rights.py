from collections.abc import Iterable

from tokenferry.gateway._access_log import told
from tokenferry.gateway._answers import Refusal
from tokenferry.state import ClientKey


def check_models(key: ClientKey, names: Iterable[str | None]) -> None:
    """Raise the `Refusal` of the first model that the key may not ask for. None is a request that names none.

    `names` are all those by which the client itself can say what it wants; what configuration makes of them is not its.
    """
    rights = key.rights
    if not rights.models:
        return
    for name in names:
        if not rights.allows_model(name):
            asked = "ask without naming a model" if name is None else f"use model {told(name) or 'of that name'}"
            message = f"client key {key.name} may not {asked}; it may use {', '.join(rights.models)}"
            raise Refusal(400, "invalid_request_error", message, cause="model_denied")
