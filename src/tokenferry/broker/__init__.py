"""The `Broker`: gives any account's credential, renewed where that is due, to threads and event loops alike."""

from tokenferry.broker._broker import Broker
from tokenferry.broker._default import aresolve, default_broker, invalidate, resolve

__all__ = ["Broker", "aresolve", "default_broker", "invalidate", "resolve"]
