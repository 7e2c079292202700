"""The gateway: an Anthropic-compatible endpoint that swaps its callers' client keys for an account's credential."""

from tokenferry.gateway._access_log import AccessLog
from tokenferry.gateway._answers import ERROR_MARK, REQUEST_ID
from tokenferry.gateway._app import Gateway
from tokenferry.gateway._board import Board
from tokenferry.gateway._control import Control
from tokenferry.gateway._credentials import CredentialSource, KeyRing
from tokenferry.gateway._decision_log import DecisionLog
from tokenferry.gateway._forwarded import TrustedProxies
from tokenferry.gateway._guard import Guard, own_hosts
from tokenferry.gateway._listener import Listener
from tokenferry.gateway._listening import Listening, listening
from tokenferry.gateway._metrics import GatewayStatistics, Metrics
from tokenferry.gateway._one_off import OneOffKey
from tokenferry.gateway._own_upstream import check_upstreams
from tokenferry.gateway._port import bind, check_host, remove_port_file, write_port_file
from tokenferry.gateway._process import allow_connections, connection_limit, hide_memory, tune_interpreter
from tokenferry.gateway._recorder import Recorder
from tokenferry.gateway._relay import Relay
from tokenferry.gateway._remote import check_reach, guests, is_remote, remote_lines
from tokenferry.gateway._request import Budget
from tokenferry.gateway._supervisor import Following, Place, Supervisor
from tokenferry.gateway._terminal import Terminal
from tokenferry.gateway._tls import renew_tls, server_tls
from tokenferry.gateway._unix import bind_unix, remove_unix
from tokenferry.gateway._upstreams import Upstreams

__all__ = [
    "ERROR_MARK",
    "REQUEST_ID",
    "AccessLog",
    "Board",
    "Budget",
    "Control",
    "CredentialSource",
    "DecisionLog",
    "Following",
    "Gateway",
    "GatewayStatistics",
    "Guard",
    "KeyRing",
    "Listener",
    "Listening",
    "Metrics",
    "OneOffKey",
    "Place",
    "Recorder",
    "Relay",
    "Supervisor",
    "Terminal",
    "TrustedProxies",
    "Upstreams",
    "allow_connections",
    "bind",
    "bind_unix",
    "check_host",
    "check_reach",
    "check_upstreams",
    "connection_limit",
    "guests",
    "hide_memory",
    "is_remote",
    "listening",
    "own_hosts",
    "remote_lines",
    "remove_port_file",
    "remove_unix",
    "renew_tls",
    "server_tls",
    "tune_interpreter",
    "write_port_file",
]
