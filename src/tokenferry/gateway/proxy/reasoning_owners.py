"""Which account encrypted reasoning came from, so that it goes to no other: in requests that pass untranslated."""

import re
from collections import OrderedDict
from collections.abc import Collection
from typing import Final

_ENCRYPTED: Final = re.compile(rb'"encrypted_content"\s*+:\s*+"([^"\\]++)"')
_MOST: Final = 10_000
_MOST_THOUGHTS: Final = 1000


def thoughts_in(body: bytes) -> list[int]:
    """A number for each encrypted thought in a request, in their order."""
    return [hash(found) for found in _ENCRYPTED.findall(body)] if b'"encrypted_content"' in body else []


class _Conversation:
    __slots__ = ("accounts", "last", "owners")

    def __init__(self) -> None:
        self.last: str | None = None
        self.accounts: set[str] = set()
        self.owners: OrderedDict[int, str] = OrderedDict()


class ReasoningOwners:
    """Remembers the accounts of the latest conversations, and of each thought that came up in one.

    A thought that is new in a request is of the account that answered the conversation last. Of requests that name no
    conversation, once two accounts have answered them, a new thought is of no known account. It knows nothing of what
    was before the process began: then the vendor's refusal decides.
    """

    def __init__(self) -> None:
        self._conversations: OrderedDict[str, _Conversation] = OrderedDict()

    def foreign(self, conversation: str, account: str, thoughts: Collection[int], *, is_named: bool) -> frozenset[int]:
        """Those of the thoughts that this account must not get."""
        known = self._conversations.get(conversation)
        if known is None or known.last is None:
            return frozenset()
        is_clear = is_named or len(known.accounts) == 1
        owners = known.owners
        for thought in thoughts:
            if thought not in owners and is_clear:
                owners[thought] = known.last
        while len(owners) > _MOST_THOUGHTS:
            owners.popitem(last=False)
        return frozenset(thought for thought in thoughts if owners.get(thought) != account)

    def answered(self, conversation: str, account: str, thoughts: Collection[int]) -> None:
        """The account has read these thoughts, and what comes next is its own."""
        known = self._conversations.setdefault(conversation, _Conversation())
        self._conversations.move_to_end(conversation)
        if len(self._conversations) > _MOST:
            self._conversations.popitem(last=False)
        known.last = account
        known.accounts.add(account)
        known.owners.update(dict.fromkeys(thoughts, account))
