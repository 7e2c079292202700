from collections.abc import Iterable, Mapping


def select_next_account_for_swap(
    accounts: Iterable[str], limited_until: Mapping[str, float | None], *, now: float, current: str | None = None
) -> str | None:
    """Choose the account to switch to: the first that was never limited, else the first whose limit has ended.

    `accounts` are names in the order of preference. `limited_until` says when an account's limit ends, None where that
    isn't known; times are seconds since 1970 UTC. The `current` account isn't chosen. Gives None where every other one
    is limited. Reads and changes nothing.
    """
    others = [name for name in accounts if name != current]
    unlimited = (name for name in others if name not in limited_until)
    ended = (name for name in others if (end := limited_until.get(name)) is not None and end <= now)
    return next(unlimited, None) or next(ended, None)
