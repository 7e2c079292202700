"""Thinking and sampling, which each format asks for in its own way."""

from typing import Any, Final

from tokenferry.wire._quirks import Quirks
from tokenferry.wire.messages import _models as messages

_LOW: Final = 4096
_MEDIUM: Final = 16384
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS: Final = {"minimal": 1024, "low": 4096, "medium": 16384, "high": 32000, "xhigh": 32000, "max": 32000}
_LEAST_BUDGET: Final = 1024


def asked_effort(asked: messages.MessagesRequest, quirks: Quirks, left: set[str]) -> str | None:
    """Give the model's effort that is nearest to the one asked for; None if the request asks for none."""
    thinking, config = asked.thinking, asked.output_config
    wanted = None if config is None else config.effort
    if thinking is not None:
        if thinking.type == "disabled":
            wanted = "none"
        elif thinking.budget_tokens is not None and wanted is None:
            budget = thinking.budget_tokens
            wanted = "low" if budget <= _LOW else "medium" if budget <= _MEDIUM else "high"
    if wanted is None:
        return None
    if wanted in quirks.efforts:
        return wanted
    if wanted == "none":
        return None
    if not quirks.efforts or wanted not in _EFFORTS:
        left.add("output_config" if thinking is None else "thinking")
        return None
    place = _EFFORTS.index(wanted)
    return min(quirks.efforts, key=lambda one: abs(_EFFORTS.index(one) - place) if one in _EFFORTS else len(_EFFORTS))


def asked_budget(asked: messages.MessagesRequest) -> int | None:
    """Give the thinking budget in tokens that a request asks for by number or by effort; None if it asks for none."""
    if asked.thinking is not None and asked.thinking.budget_tokens is not None:
        return asked.thinking.budget_tokens
    effort = None if asked.output_config is None else asked.output_config.effort
    return _BUDGETS.get(effort or "")


def ask_for_thinking(
    effort: str | None, request: messages.MessagesRequest, quirks: Quirks, *, may_think: bool, is_last: bool
) -> tuple[str, ...]:
    """Ask for thinking with this effort. Give the fields that are left out for it, or "effort" if that is left out.

    `is_last` says that the request goes to Claude, not to another codec. Claude thinks only if asked, but other models
    must be asked not to.
    A budget demands that the model has thought before its last calls (`may_think`):
    https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking
    """
    if effort == "none" and not is_last and quirks.thinking != "never":
        request.thinking = messages.ThinkingConfig(type="disabled")
    if effort is None or effort == "none":
        return ()
    forced = request.tool_choice is not None and request.tool_choice.type in {"any", "tool"}
    budget = min(_BUDGETS.get(effort, 0), request.max_tokens - 1)
    cannot = budget < _LEAST_BUDGET or (quirks.thinking == "budget" and not may_think)
    if quirks.thinking == "never" or forced or cannot:
        return ("effort",)
    if quirks.thinking == "budget":
        request.thinking = messages.ThinkingConfig(type="enabled", budget_tokens=budget)
    else:
        request.thinking = messages.ThinkingConfig(type="adaptive")
        config = request.output_config = request.output_config or messages.OutputConfig()
        config.effort = "low" if effort == "minimal" else effort
    dropped = tuple(name for name in ("temperature", "top_p", "top_k") if getattr(request, name) is not None)
    for name in dropped:  # Claude refuses them together with thinking
        setattr(request, name, None)
    return dropped


def pass_sampling(asked: messages.MessagesRequest, request: Any, quirks: Quirks, left: set[str]) -> None:
    """Copy the temperature and `top_p` to a request of another format. 1 is the default and is not sent."""
    for name in ("temperature", "top_p"):
        value = getattr(asked, name)
        if value is not None and value != 1:
            if quirks.temperature:
                setattr(request, name, value)
            else:
                left.add(name)


def limit_sampling(request: messages.MessagesRequest, quirks: Quirks, left: set[str]) -> None:
    """Obey Claude's limits: a temperature of at most 1, no `top_p` together with one; some models take neither."""
    if not quirks.temperature:
        for name in ("temperature", "top_p", "top_k"):
            if getattr(request, name) is not None:
                setattr(request, name, None)
                left.add(name)
    if request.temperature is not None:
        if request.temperature > 1:
            request.temperature = 1
            left.add("temperature")
        if request.top_p is not None:
            request.top_p = None
            left.add("top_p")
