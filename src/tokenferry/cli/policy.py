from pathlib import Path
from typing import Annotated, Final

import typer

from tokenferry.audit import note_change
from tokenferry.broker import settle_default_provider
from tokenferry.cli._home import find
from tokenferry.cli._output import note, outcome_json, say, say_json, say_lines
from tokenferry.cli._owner import refuse_own_with_foreign
from tokenferry.cli._policy import ask_for_own
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.errors import ConfigError, UsageError, nearest
from tokenferry.policy_statement import TERMS, withdraw
from tokenferry.settings import PolicySettings
from tokenferry.units import moment

app = new_app(
    "Show and set what Claude subscriptions may be used for.",
    "tokenferry policy show",
    "tokenferry policy set own-use",
)

_SPELLINGS: Final = {"off": "claude-code-only", "own": "own-use"}
_EFFECT: Final = {
    "claude-code-only": "credentials billed to a Claude subscription are handed to Claude Code alone",
    "own-use": "credentials billed to a Claude subscription are handed out on this machine, as their owner stated",
}


@app.command("show", epilog=examples("tokenferry policy show", "tokenferry policy show --json | jq -r .subscriptions"))
def show(*, as_json: JSON = False) -> None:
    """Show the policy, its source, and the date of your statement."""
    home, config = find()
    policy = config.policy
    place = _place(policy, config.path, home.statement)
    if as_json:
        say_json(
            {
                "subscriptions": policy.subscriptions,
                "source": policy.source,
                "path": None if place is None else str(place),
                "stated_at": policy.stated_at,
                "terms": TERMS,
            }
        )
        return
    since = "" if policy.stated_at is None else f", stated {moment(policy.stated_at)}"
    say_lines(
        (
            f"subscriptions  {policy.subscriptions}: {_EFFECT[policy.subscriptions]}",
            f"said by        {place or 'nothing: it is the default'}{since}",
            f"terms          {TERMS}",
        )
    )


@app.command("set", epilog=examples("tokenferry policy set own-use", "tokenferry policy set claude-code-only"))
def set_(
    value: Annotated[
        str,
        typer.Argument(
            metavar="claude-code-only|own-use",
            show_default=False,
            autocompletion=lambda: list(_EFFECT),
            help="The policy.",
        ),
    ],
    *,
    as_json: JSON = False,
) -> None:
    """Set whether programs other than Claude Code may use the logins of your Claude subscription.

    "own-use" asks on the terminal for a statement and records it with its date: the subscription is yours alone, and
    you have read the vendor's terms. Running gateways follow within two seconds.
    """
    value = _SPELLINGS.get(value, value)
    if value not in _EFFECT:
        near = nearest(value, _EFFECT)
        hint = f"did you mean {near!r}?" if near else f"there are {' and '.join(_EFFECT)}"
        raise UsageError(f"there is no policy {value[:80]!r}; {hint}")
    with outcome_json(wanted=as_json) as document:
        _set(value)
        document |= {"subscriptions": value}


def _set(value: str) -> None:
    home, config = find()
    settle_default_provider(home, config)
    if value == "own-use":
        if config.policy.subscriptions == "own-use":
            say(f"the policy is already own-use, as {_place(config.policy, config.path, home.statement)} says")
            return
        refuse_own_with_foreign()
        if not ask_for_own(home, config):
            note("nothing was stated, so the policy stays claude-code-only")
            raise typer.Exit(1)
        settle_default_provider(home)  # the policy may have kept an account from serving
        say("the policy is own-use now")
        return
    if config.policy.source == "config.toml" and config.policy.subscriptions == "own-use":
        raise ConfigError(f'{config.path} says subscriptions = "own-use" under [policy]; change it there')
    withdraw(home.statement)
    note_change(home, "policy.off", "policy")
    say("the policy is claude-code-only now")


def _place(policy: PolicySettings, config: Path | None, statement: Path) -> Path | None:
    return {"default": None, "config.toml": config, "statement": statement}[policy.source]
