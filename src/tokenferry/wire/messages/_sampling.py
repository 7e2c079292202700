"""How the model is to think and to choose: OpenAI's formats and the Messages API ask for it in different ways."""

from typing import Any, Final

from tokenferry.wire._quirks import Quirks
from tokenferry.wire.messages import _models as messages

_LOW: Final = 4096
_MEDIUM: Final = 16384
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS: Final = {"minimal": 1024, "low": 4096, "medium": 16384, "high": 32000, "xhigh": 32000, "max": 32000}
_LEAST_BUDGET: Final = 1024


def asked_effort(asked: messages.MessagesRequest, quirks: Quirks, left: set[str]) -> str | None:
    """The effort nearest to what a request asks for that the model takes; None for none."""
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
    """The tokens for thinking that a request asks for, by their number or by its effort; None for none."""
    if asked.thinking is not None and asked.thinking.budget_tokens is not None:
        return asked.thinking.budget_tokens
    effort = None if asked.output_config is None else asked.output_config.effort
    return _BUDGETS.get(effort or "")


def ask_for_thinking(
    effort: str | None, request: messages.MessagesRequest, quirks: Quirks, *, may_think: bool, is_last: bool
) -> tuple[str, ...]:
    """Let the model think with this effort; give the fields that this leaves out, "effort" where it can't.

    A request that isn't the `is_last`, but goes on into another format, says that no thinking is wanted: Claude doesn't
    think unless asked, but others do.

    With a budget it has to have thought before its last calls, too: https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking
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
    for name in dropped:  # none of them is taken beside thinking
        setattr(request, name, None)
    return dropped


def pass_sampling(asked: messages.MessagesRequest, request: Any, quirks: Quirks, left: set[str]) -> None:
    """Ask one of OpenAI's formats for the temperature and `top_p`; the usual ones need not be said."""
    for name in ("temperature", "top_p"):
        value = getattr(asked, name)
        if value is not None and value != 1:
            if quirks.temperature:
                setattr(request, name, value)
            else:
                left.add(name)


def limit_sampling(request: messages.MessagesRequest, quirks: Quirks, left: set[str]) -> None:
    """Ask Claude for no more than it takes: a temperature of 1, and no `top_p` beside one; some models take neither."""
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
