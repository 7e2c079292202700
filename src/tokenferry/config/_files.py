from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tokenferry.manifest import depend_on
from tokenferry.providers import Setting

_FILES: Final = ("api_key", "ca_file", "tls_cert", "tls_key")


def files_of(settings: Iterable[Setting], folder: Path) -> Iterator[Path]:
    """Give the files that settings name and that are read with them."""
    for setting in settings:
        if setting.key.name in _FILES and setting.is_given and setting.value is not None:
            name = str(setting.value)
            if not name.startswith("$"):
                try:
                    yield folder.absolute() / Path(name).expanduser()
                except RuntimeError:  # no home directory is known
                    continue


def is_there(path: Path) -> bool:
    depend_on("presence", path)
    try:
        return path.exists()
    except OSError:
        return False
