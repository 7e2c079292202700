"""The gateway: an HTTP server that replaces clients' keys by an account's credential and forwards their requests."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from tokenferry.gateway.app import Gateway
from tokenferry.gateway.auth.dashboard_guard import DashboardGuard
from tokenferry.gateway.auth.ephemeral_key import EphemeralKey
from tokenferry.gateway.auth.exposure import check_reach, is_remote, remote_keys, remote_lines
from tokenferry.gateway.auth.guard import Guard, own_hosts, store_away
from tokenferry.gateway.auth.shared_key_rates import RateExchange, SharedKeyRates
from tokenferry.gateway.auth.trusted_proxies import TrustedProxies
from tokenferry.gateway.control.applications import ControlApplications, LazyApplication
from tokenferry.gateway.control.control_plane import Control
from tokenferry.gateway.http.errors import ERROR_MARK, REQUEST_ID
from tokenferry.gateway.http.handler import RequestHandler, RequestLine
from tokenferry.gateway.http.headers import HeaderList
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.gateway.http.response_writer import AnswerWriter
from tokenferry.gateway.proxy.body import BodyBudget
from tokenferry.gateway.proxy.credentials import CredentialSource, KeyRing
from tokenferry.gateway.proxy.forwarder import Forwarder
from tokenferry.gateway.proxy.own_upstream import check_upstreams
from tokenferry.gateway.proxy.reasoning_owners import ReasoningOwners
from tokenferry.gateway.routes import SERVED, proxied
from tokenferry.gateway.server.lifespan import BaseLifespan, Lifespan
from tokenferry.gateway.server.server import Server
from tokenferry.gateway.server.sockets import (
    Listening,
    bind,
    bind_unix,
    check_host,
    listening,
    remove_port_file,
    remove_unix,
    renew_tls,
    server_tls,
    write_port_file,
)
from tokenferry.gateway.telemetry.access_log import AccessLog
from tokenferry.gateway.telemetry.decision_log import DecisionLog
from tokenferry.gateway.telemetry.metric_families import GatewayStatistics
from tokenferry.gateway.telemetry.metrics import Metrics
from tokenferry.gateway.telemetry.shared_memory import SharedMemory
from tokenferry.gateway.telemetry.usage_log import UsageLog, entries_with, token_counts
from tokenferry.gateway.workers.process import (
    Terminal,
    allow_connections,
    connection_limit,
    hide_memory,
    share_heap,
    tune_interpreter,
)
from tokenferry.gateway.workers.supervisor import ReloadHooks, Supervisor, WorkerSlot
from tokenferry.pool._cooldown_sync import CooldownSync
from tokenferry.upstream._clients import UpstreamClients

__all__ = [
    "ERROR_MARK",
    "REQUEST_ID",
    "SERVED",
    "AccessLog",
    "AnswerWriter",
    "BaseLifespan",
    "BodyBudget",
    "Control",
    "ControlApplications",
    "CooldownSync",
    "CredentialSource",
    "DashboardGuard",
    "DecisionLog",
    "EphemeralKey",
    "Forwarder",
    "Gateway",
    "GatewayStatistics",
    "Guard",
    "HeaderList",
    "KeyRing",
    "LazyApplication",
    "Lifespan",
    "Listening",
    "Metrics",
    "RateExchange",
    "ReasoningOwners",
    "ReloadHooks",
    "RequestHandler",
    "RequestHead",
    "RequestLine",
    "Server",
    "SharedKeyRates",
    "SharedMemory",
    "Supervisor",
    "Terminal",
    "TrustedProxies",
    "UpstreamClients",
    "UsageLog",
    "WorkerSlot",
    "allow_connections",
    "bind",
    "bind_unix",
    "check_host",
    "check_reach",
    "check_upstreams",
    "connection_limit",
    "entries_with",
    "hide_memory",
    "is_remote",
    "listening",
    "own_hosts",
    "proxied",
    "remote_keys",
    "remote_lines",
    "remove_port_file",
    "remove_unix",
    "renew_tls",
    "server_tls",
    "share_heap",
    "store_away",
    "token_counts",
    "tune_interpreter",
    "write_port_file",
]


class _CallableRoom(ModuleType):
    """Makes `tokenferry.gateway()` callable for programs, although the name is also this package's."""

    def __call__(self, **options: Any) -> Any:
        """As `tokenferry.private_gateway`."""
        return import_module("tokenferry").private_gateway(**options)  # by name, since it is built from rooms above


sys.modules[__name__].__class__ = _CallableRoom
