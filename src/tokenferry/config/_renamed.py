from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

RENAMED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "accounts.NAME.concurrency": "max_concurrency",
        "accounts.NAME.rate": "requests_per_minute, 60 times as much",
        "gateway.answer_timeout": "upstream.response_timeout",
        "gateway.ca_file": "upstream.ca_file",
        "gateway.connect_timeout": "upstream.connect_timeout",
        "gateway.max_connections": "upstream.max_connections",
        "pool.accounts": "a section of its own, [accounts.NAME]",
        "pool.attempts": "pool.max_attempts",
        "pool.concurrency": "pool.max_concurrency",
        "pool.queue": "pool.max_queue",
        "pool.quota_threshold": "pool.quota_warning",
        "pool.rate": "pool.requests_per_minute, 60 times as much",
        "pool.total": "pool.total_timeout",
        "providers.oauth.authorize_url": "authorization_endpoint",
        "providers.oauth.device_url": "device_authorization_endpoint",
        "providers.oauth.reuse_grace_s": "reuse_grace",
        "providers.oauth.revoke_url": "revocation_endpoint",
        "providers.concurrency": "max_concurrency",
        "providers.rate": "requests_per_minute, 60 times as much",
        "providers.variable": "env_var",
        "router.rules.at_least": "min_bytes",
        "router.rules.at_most": "max_bytes",
        "server.drain": "server.drain_timeout",
        "server.log_format": "log.format",
        "store.share_accounts": "so wherever store.url is set; remove the key",
    }
)
"""Former keys, with their present names. Each is a fault that says the present name."""
