"""Rate limits of upstreams: reads their headers, and classifies their answers. The package does no I/O."""

from tokenferry.limits._classification import Action, Classification, CooldownRule, Models, Scope
from tokenferry.limits._classify import classify
from tokenferry.limits._cooldown import cooldown_until
from tokenferry.limits._error import AnswerError, may_be_error, read_error
from tokenferry.limits._family import OTHER, model_family
from tokenferry.limits._headers import WireFormat, read_limits
from tokenferry.limits._inflate import readable
from tokenferry.limits._rules import Rule
from tokenferry.limits._state import LONGEST_WINDOW, Bucket, LimitState, Window
from tokenferry.limits._usage import read_usage
from tokenferry.limits._values import read_moment

__all__ = [
    "LONGEST_WINDOW",
    "OTHER",
    "Action",
    "AnswerError",
    "Bucket",
    "Classification",
    "CooldownRule",
    "LimitState",
    "Models",
    "Rule",
    "Scope",
    "Window",
    "WireFormat",
    "classify",
    "cooldown_until",
    "may_be_error",
    "model_family",
    "read_error",
    "read_limits",
    "read_moment",
    "read_usage",
    "readable",
]
