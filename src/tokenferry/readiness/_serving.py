from collections.abc import Iterator

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.errors import PolicyRefused, TokenferryError
from tokenferry.pool import AccountGroup
from tokenferry.readiness._resolver import ANYONE, resolver_of
from tokenferry.routing import NoRoute
from tokenferry.stores import Account, Document


def serving_line(config: Config, broker: Broker, name: str) -> str:
    """Describe an account's place in the gateway: `serves as 2 of 3 at anthropic`, or why nothing yet, and the fix."""
    try:
        document = broker.book.read(name)
        broker.check_policy(document)
    except PolicyRefused:
        return "serves nothing yet: policy hands it to Claude Code alone; see: tokenferry policy show"
    except TokenferryError as fault:
        return f"serves nothing yet: {fault}"
    if places := list(_places(config, broker, name)):
        return f"serves {'; '.join(places)}{_sharing(broker, document)}"
    return f"serves nothing yet: {_why_nothing(config, broker, document.account)}"


def _sharing(broker: Broker, document: Document) -> str:
    """Give a remark about another account of the provider with the same key; empty without one."""
    account, credential = document.account, document.credential
    others = broker.book.holders(credential, besides=account.name)
    twin = next((one for one in others if broker.book.read(one).account.provider == account.provider), None)
    return "" if twin is None else f"; account {twin} has the same {credential.kind}, so a limit of one is one of both"


def _places(config: Config, broker: Broker, name: str) -> Iterator[str]:
    """Yield its place as a default account, and for the models of `[[models]]`."""
    resolver = resolver_of(config, broker)
    names: list[str | None] = [model.name for model in config.models]
    if config.router.unmapped == "default":
        names.insert(0, None)
    models: dict[str, list[str]] = {}
    for model in names:
        plan = resolver.resolve_model(model, ANYONE)
        if isinstance(plan, NoRoute) or plan.pinned not in {None, name}:
            continue
        for target in plan.targets:
            if name in target.group.by_name:
                place = _place(target.group, name) if plan.pinned is None else f"alone at {target.group.provider}"
                models.setdefault(place, []).extend([] if model is None else [model])
                if model is None:
                    yield place
    for place, served in models.items():
        if served:
            yield f"{', '.join(dict.fromkeys(served))} {place}"


def _place(group: AccountGroup, name: str) -> str:
    accounts = [account.name for account in group.accounts]
    return f"as {accounts.index(name) + 1} of {len(accounts)} at {group.provider}"


def _why_nothing(config: Config, broker: Broker, account: Account) -> str:
    provider = account.provider
    known = broker.providers.get(provider)
    if known is None or not known.enabled:
        return f"provider {provider} is {'not declared' if known is None else 'not enabled'}; see [[providers]]"
    if not known.serves_mapped:
        return f"provider {provider} has no base_url; see [[providers]]"
    if config.router.account is not None:
        return f"[router] account = {config.router.account} serves everything"
    default = broker.default_provider()
    if provider == default and not config.router.providers:
        return f"provider {provider} lists other accounts; see accounts under [[providers]] {provider}"
    mapping = f"map a model to it with: tokenferry model add NAME {provider}/MODEL{_by_name(config, broker, provider)}"
    if config.router.providers:
        return f"{mapping}; other models go to [router] providers"
    others = f"; other models go to the default provider, {default}, until you make {provider} the default with: "
    return mapping if default is None else f"{mapping}{others}tokenferry use {account.name} --default-provider"


def _by_name(config: Config, broker: Broker, provider: str) -> str:
    """Describe what a request for `PROVIDER/MODEL` gets, as an addition to a hint."""
    plan = resolver_of(config, broker).resolve_model(f"{provider}/MODEL", ANYONE)
    if isinstance(plan, NoRoute):
        return ""
    served = plan.targets[0].group.provider
    if served == provider:
        return f", or ask for {provider}/MODEL"
    return f" ({provider}/MODEL alone goes to {served}, as before: its models have such names)"
