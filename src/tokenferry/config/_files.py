from pathlib import Path

from tokenferry.providers import Table


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
