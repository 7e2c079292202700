"""Labels on a command line."""

from tokenferry.errors import UsageError


def label_pair(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE. Raises `UsageError`."""
    name, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"{text[:80]!r} is not a label; give NAME=VALUE")
    return name, value


def label_change(text: str) -> tuple[str, str | None]:
    """Parse NAME=VALUE, which sets a label, or NAME-, which removes it (None). Raises `UsageError`."""
    if "=" not in text and text.endswith("-"):
        return text[:-1], None
    return label_pair(text)
