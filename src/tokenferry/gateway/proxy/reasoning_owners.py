"""Tracks the account of encrypted reasoning, which only that account can read, in untranslated requests."""

import re
from collections import OrderedDict
from collections.abc import Collection
from typing import Final

_ENCRYPTED: Final = re.compile(rb'"encrypted_content"\s*+:\s*+"([^"\\]++)"')
_MOST: Final = 10_000
_MOST_THOUGHTS: Final = 1000


def thoughts_in(body: bytes) -> list[int]:
    """Give a number for each encrypted thought in a request, in order."""
    return [hash(found) for found in _ENCRYPTED.findall(body)] if b'"encrypted_content"' in body else []


class _Conversation:
    __slots__ = ("accounts", "last", "owners")

    def __init__(self) -> None:
        self.last: str | None = None
        self.accounts: set[str] = set()
        self.owners: OrderedDict[int, str] = OrderedDict()


class ReasoningOwners:
    """Remembers which account owns each encrypted thought of the latest conversations.

    A thought that is new in a request belongs to the account that answered the conversation last. If the request names
    no conversation and two accounts have answered such requests, its owner is unknown. Owners from before the start of
    the process are unknown, too: then the vendor's refusal decides.
    """

    def __init__(self) -> None:
        self._conversations: OrderedDict[str, _Conversation] = OrderedDict()

    def foreign(self, conversation: str, account: str, thoughts: Collection[int], *, is_named: bool) -> frozenset[int]:
        """Give the thoughts that must not be sent to this account."""
        known = self._conversations.get(conversation)
        if known is None or known.last is None:
            return frozenset()
        has_one_owner = is_named or len(known.accounts) == 1
        owners = known.owners
        for thought in thoughts:
            if thought not in owners and has_one_owner:
                owners[thought] = known.last
        while len(owners) > _MOST_THOUGHTS:
            owners.popitem(last=False)
        return frozenset(thought for thought in thoughts if owners.get(thought) != account)

    def answered(self, conversation: str, account: str, thoughts: Collection[int]) -> None:
        """Make the account the owner of these thoughts, which it has read, and of the conversation's next ones."""
        known = self._conversations.setdefault(conversation, _Conversation())
        self._conversations.move_to_end(conversation)
        if len(self._conversations) > _MOST:
            self._conversations.popitem(last=False)
        known.last = account
        known.accounts.add(account)
        known.owners.update(dict.fromkeys(thoughts, account))
