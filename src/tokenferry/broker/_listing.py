from collections.abc import Callable, Hashable, Iterable, Mapping

from tokenferry.accounts import AccountList, Accounts
from tokenferry.errors import TokenferryError
from tokenferry.refresh import WarmCredentials
from tokenferry.stores import Mirrored, Watch


class WatchedListing:
    """The accounts in order, listed again when a program changes them; their warm credentials are forgotten, too.

    Any thread may ask and tell. What other processes change is noticed by `watch`, which asks for `stamps` every
    `interval` seconds.
    """

    def __init__(
        self, book: Accounts, warm: WarmCredentials, stamps: Callable[[], Mapping[str, Hashable]], interval: float
    ) -> None:
        self._book = book
        self._warm = warm
        self._listing: AccountList | None = None
        self._configured = object()
        self.watch = Watch(stamps, interval, self._notice)
        if isinstance(book.store, Mirrored):
            book.store.mirror.notify(self.watch.wake)

    def get(self) -> AccountList:
        """One object as long as nothing changed."""
        listing = self._listing
        if listing is None:
            self.watch.ensure_running()
            revision = self._warm.revision
            self._listing = listing = self._book.listing(known=True)
            if revision is not self._warm.revision:
                self._listing = None
        return listing

    def forget(self, *names: str) -> None:
        """These accounts, or what is on record of all, were changed here."""
        self._warm.forget(names)
        self._listing = None

    def adopt(self) -> None:
        """The configuration was changed, and the book's implicit accounts with it. No I/O."""
        self._configured = object()
        self._warm.forget([name for name in list(self._warm.entries) if name is not None])
        if (listing := self._listing) is not None:
            self._listing = self._book.listed_anew(listing)

    def _notice(self, names: Iterable[str]) -> None:
        """What any program changed. The watch's thread lists again, so that no event loop has to."""
        self._warm.forget(names)
        if self._listing is not None:
            configured = self._configured
            try:
                self._listing = self._book.listing(known=True)
            except TokenferryError:  # the next caller gets the error
                self._listing = None
            if configured is not self._configured:  # it may lack accounts that have been configured since
                self._listing = None
