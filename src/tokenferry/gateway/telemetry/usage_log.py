"""Converts request records into ledger entries."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final, TypeAlias

from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.ledger import Billing, LedgerEntry, LedgerWriter, OtherModel
from tokenferry.prices import TokenCounts
from tokenferry.routing import loggable
from tokenferry.streaming import TokenUsage

UsageLog: TypeAlias = LedgerWriter[RequestRecord]
BillingOf: TypeAlias = Callable[[str, str], Billing]
"""Gives how requests of a provider and an account are billed."""

_loggable: Final = lru_cache(4096)(loggable)


def entries_with(billing: BillingOf) -> Callable[[RequestRecord], LedgerEntry]:
    return partial(ledger_entry, billing)


def ledger_entry(billing: BillingOf, record: RequestRecord) -> LedgerEntry:
    """Give the record as a ledger entry."""
    usage = record.usage
    account, provider = record.account or "", record.provider or ""
    hour = usage.cache_creation_1h
    five = usage.cache_creation
    if hour and five is not None:
        five = max(five - hour, 0)
    served = None if record.served_model is None else _loggable(record.served_model)
    return LedgerEntry(
        record.key_id,
        record.client or "",
        account,
        provider,
        record.model or "",
        record.session or "",
        record.agent or "",
        record.parent_agent or "",
        record.error or "",
        usage.speed or "",
        usage.service_tier or "",
        usage.inference_geo or "",
        record.request_id,
        record.is_side,
        record.status,
        record.attempts,
        usage.input,
        usage.output,
        usage.cache_read,
        five,
        hour,
        usage.thinking,
        usage.web_searches,
        usage.is_estimated,
        "unpriced" if record.is_unpriced else billing(provider, account),
        record.bytes_in,
        record.bytes_out,
        record.at,
        served or record.upstream_model or record.model or "",
        _others(usage) if usage.others else (),
        record.first_byte,
        record.duration,
    )


def _others(usage: TokenUsage) -> tuple[OtherModel, ...]:
    return tuple(OtherModel(one.model, token_counts(one)) for one in usage.others if one.model)


def token_counts(usage: TokenUsage) -> TokenCounts:
    """Give the billed counts; unknown ones are 0."""
    hour = usage.cache_creation_1h or 0
    return TokenCounts(
        usage.input or 0,
        usage.output or 0,
        usage.cache_read or 0,
        max((usage.cache_creation or 0) - hour, 0),
        hour,
        usage.web_searches or 0,
    )
