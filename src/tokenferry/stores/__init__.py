from tokenferry.secret import HiddenBytes
from tokenferry.stores._attached import AttachedStore, Moves, are_different
from tokenferry.stores._attachments import Attachments
from tokenferry.stores._boot import boot_id
from tokenferry.stores._document import (
    ACCOUNT_NAME,
    COMMAND,
    DEFAULT_PRIORITY,
    FETCHED,
    GOOGLE,
    MOST_LABELS,
    WRITTEN_BY_NEWER,
    Account,
    Document,
    Owner,
    check_account_name,
    check_label,
    refuse_twin,
)
from tokenferry.stores._file_store import FileStore
from tokenferry.stores._files import (
    DISK,
    Disk,
    check_folder,
    check_status,
    make_private_folder,
    read_private_file,
    reason_of,
    remove_file,
    remove_leftovers,
    replace_private_file,
)
from tokenferry.stores._lock import FileLock, refuse_network_file_system
from tokenferry.stores._memory import MemoryStore
from tokenferry.stores._new_file import create_private_file
from tokenferry.stores._process import ProcessIdentity
from tokenferry.stores._replaceable import check_replaceable
from tokenferry.stores._seal import KEY_FILE, Seal, key_place
from tokenferry.stores._sealed import Header, SealedDocument, parse_sealed
from tokenferry.stores._store import (
    Attaching,
    Follow,
    Lock,
    Mirror,
    Mirrored,
    Publishing,
    Replacing,
    Sealable,
    Store,
    held,
)
from tokenferry.stores._watch import Watch

__all__ = [
    "ACCOUNT_NAME",
    "COMMAND",
    "DEFAULT_PRIORITY",
    "DISK",
    "FETCHED",
    "GOOGLE",
    "KEY_FILE",
    "MOST_LABELS",
    "WRITTEN_BY_NEWER",
    "Account",
    "AttachedStore",
    "Attaching",
    "Attachments",
    "Disk",
    "Document",
    "FileLock",
    "FileStore",
    "Follow",
    "Header",
    "HiddenBytes",
    "Lock",
    "MemoryStore",
    "Mirror",
    "Mirrored",
    "Moves",
    "Owner",
    "ProcessIdentity",
    "Publishing",
    "Replacing",
    "Seal",
    "Sealable",
    "SealedDocument",
    "Store",
    "Watch",
    "are_different",
    "boot_id",
    "check_account_name",
    "check_folder",
    "check_label",
    "check_replaceable",
    "check_status",
    "create_private_file",
    "held",
    "key_place",
    "make_private_folder",
    "parse_sealed",
    "read_private_file",
    "reason_of",
    "refuse_network_file_system",
    "refuse_twin",
    "remove_file",
    "remove_leftovers",
    "replace_private_file",
]
