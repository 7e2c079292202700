"""Budgets by client key, group and period: reserved before a request, settled after it. No I/O."""

from tokenferry.budgets._book import BudgetBook, BudgetRefusal, BudgetSubject, RefusalCause, Reservation, counters_at
from tokenferry.budgets._budget import GROUP_LABEL, Budget, Spending, SpendingLimit
from tokenferry.budgets._calendar import Span, midnight, span_of
from tokenferry.budgets._counter import THRESHOLDS, Counter, CounterKey
from tokenferry.budgets._estimates import ModelPrice, RequestSize, UsageEstimates

__all__ = [
    "GROUP_LABEL",
    "THRESHOLDS",
    "Budget",
    "BudgetBook",
    "BudgetRefusal",
    "BudgetSubject",
    "Counter",
    "CounterKey",
    "ModelPrice",
    "RefusalCause",
    "RequestSize",
    "Reservation",
    "Span",
    "Spending",
    "SpendingLimit",
    "UsageEstimates",
    "counters_at",
    "midnight",
    "span_of",
]
