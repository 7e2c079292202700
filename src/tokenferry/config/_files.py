from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tokenferry.providers import Setting, Table

_FILES: Final = ("api_key", "ca_file", "tls_cert", "tls_key")


def files_of(settings: Iterable[Setting], folder: Path) -> Iterator[Path]:
    """The files that settings name and that are read with them."""
    for setting in settings:
        if setting.key in _FILES and setting.is_given and not str(setting.value).startswith("$"):
            try:
                yield folder.absolute() / Path(str(setting.value)).expanduser()
            except RuntimeError:  # no home directory is known
                continue


def is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def file_of(table: Table, key: str, folder: Path) -> Path | None:
    """A file's path, seen from the folder of the configuration."""
    name = table.text(key)
    if name is None:
        return None
    if "\0" in name:
        table.problem(key, "is no file's path")
        return None
    try:
        return folder.absolute() / Path(name).expanduser()
    except RuntimeError:
        table.problem(key, "names a home directory that is not known here")
        return None
