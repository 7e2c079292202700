"""The gateway: an Anthropic-compatible endpoint that swaps its callers' client keys for an account's credential."""

from tokenferry.gateway._answers import ERROR_MARK, REQUEST_ID
from tokenferry.gateway._app import Gateway, GatewayStatistics
from tokenferry.gateway._credentials import CredentialSource, KeyRing
from tokenferry.gateway._guard import Guard, own_hosts
from tokenferry.gateway._listener import GRACE, Listener
from tokenferry.gateway._one_off import OneOffKey
from tokenferry.gateway._port import bind, write_port_file
from tokenferry.gateway._relay import Relay
from tokenferry.gateway._request import Budget
from tokenferry.gateway._upstreams import Upstreams

__all__ = [
    "ERROR_MARK",
    "GRACE",
    "REQUEST_ID",
    "Budget",
    "CredentialSource",
    "Gateway",
    "GatewayStatistics",
    "Guard",
    "KeyRing",
    "Listener",
    "OneOffKey",
    "Relay",
    "Upstreams",
    "bind",
    "own_hosts",
    "write_port_file",
]
