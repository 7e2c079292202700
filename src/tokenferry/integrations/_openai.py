from tokenferry.broker import Broker


class ApiKeyProvider:
    """Gives the account's current key or access token."""

    def __init__(self, broker: Broker, name: str | None) -> None:
        self._broker = broker
        self._name = name

    def __call__(self) -> str:
        """Raises what `Broker.resolve` raises."""
        return self._broker.resolve(self._name).secret.reveal()


class AsyncApiKeyProvider:
    """The asynchronous kind."""

    def __init__(self, broker: Broker, name: str | None) -> None:
        self._broker = broker
        self._name = name

    async def __call__(self) -> str:
        """Raises what `Broker.aresolve` raises."""
        return (await self._broker.aresolve(self._name)).secret.reveal()
