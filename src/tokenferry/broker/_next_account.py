from collections.abc import Iterable, Mapping


def select_next_account_for_swap(
    accounts: Iterable[str], limited_until: Mapping[str, float | None], *, now: float, current: str | None = None
) -> str | None:
    """Choose the account to switch to: the first without a limit, else the first whose limit has ended.

    `accounts` are names in order of preference. `limited_until` is the end of an account's limit, None if unknown;
    times
    are seconds since 1970 UTC. The `current` account isn't chosen. Returns None if all others are limited. Pure.
    """
    others = [name for name in accounts if name != current]
    unlimited = (name for name in others if name not in limited_until)
    ended = (name for name in others if (end := limited_until.get(name)) is not None and end <= now)
    return next(unlimited, None) or next(ended, None)
