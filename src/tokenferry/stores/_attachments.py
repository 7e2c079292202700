import json
from pathlib import Path
from typing import Final

from tokenferry.errors import CorruptFile, UsageError
from tokenferry.secret import parse_object
from tokenferry.stores._document import VERSION, Account, account_from_json, account_to_json, check_account_name
from tokenferry.stores._files import DISK, Disk, remove_file, remove_leftovers, replace_private_file

_SUFFIX: Final = ".json"


class Attachments:
    """Accounts whose logins another program stores: a 0600 document for each, without secrets.

    While the document exists, the account's login is the one in that store. It is written under the lock of the
    account's own document.
    """

    def __init__(self, folder: Path, *, disk: Disk = DISK) -> None:
        self._folder = folder
        self._disk = disk

    def names(self) -> list[str]:
        names = (name for name in self._disk.names(self._folder) if not name.startswith("."))
        return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]

    def path(self, name: str) -> Path:
        return self._folder / f"{check_account_name(name)}{_SUFFIX}"

    def read(self, name: str) -> Account | None:
        """Give the account if it is attached. Raises `CorruptFile`, `UnsafeFile`."""
        path = self.path(name)
        try:
            fields = parse_object(self._disk.read(path))
        except FileNotFoundError:
            return None
        reason = "it isn't a JSON object"
        if fields is not None:
            try:
                return account_from_json(fields, name, store=str(fields.get("store")))
            except UsageError as fault:
                reason = str(fault)
        raise CorruptFile(f"{path} can't be understood: {reason}; remove it with: tokenferry account remove {name}")

    def put(self, account: Account) -> None:
        """Record that the account's login is stored in `account.store`. Raises `StorageFailed`."""
        fields = {"version": VERSION, "store": account.store, **account_to_json(account)}
        path = self.path(account.name)
        remove_leftovers(path, disk=self._disk)
        replace_private_file(path, json.dumps(fields, indent=1).encode("ascii") + b"\n", disk=self._disk)

    def remove(self, name: str) -> None:
        """Record that the login is no longer stored there. Raises `StorageFailed`."""
        remove_file(self.path(name), disk=self._disk)
