from collections.abc import Callable, Hashable, Iterable, Mapping

from tokenferry.accounts import AccountList, Accounts
from tokenferry.errors import TokenferryError
from tokenferry.refresh import WarmCredentials
from tokenferry.stores import Mirrored, Watch


class WatchedListing:
    """Caches the account list until a program changes it; changed accounts also lose their warm credentials.

    Thread-safe. `watch` notices changes by other processes: it compares `stamps` every `interval` seconds.
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
        """Return the list: one object while nothing changes."""
        listing = self._listing
        if listing is None:
            self.watch.ensure_running()
            revision = self._warm.revision
            self._listing = listing = self._book.listing(known=True)
            if revision is not self._warm.revision:
                self._listing = None
        return listing

    def forget(self, *names: str) -> None:
        """Invalidate after a change by this process to these accounts, or to the records of all."""
        self._warm.forget(names)
        self._listing = None

    def adopt(self) -> None:
        """Follow a changed configuration, with its implicit accounts. No I/O."""
        self._configured = object()
        self._warm.forget([name for name in list(self._warm.entries) if name is not None])
        if (listing := self._listing) is not None:
            self._listing = self._book.relisted(listing)

    def _notice(self, names: Iterable[str]) -> None:
        """Follow changes by any program. The watch's thread lists again, so that no event loop has to."""
        self._warm.forget(names)
        if self._listing is not None:
            configured = self._configured
            try:
                self._listing = self._book.listing(known=True)
            except TokenferryError:  # the next caller gets the error
                self._listing = None
            if configured is not self._configured:  # it may lack newly configured accounts
                self._listing = None
