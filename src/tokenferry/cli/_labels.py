"""Labels as a command line gives them."""

from tokenferry.errors import UsageError


def label_pair(text: str) -> tuple[str, str]:
    """NAME=VALUE. Raises `UsageError`."""
    name, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"{text[:80]!r} is no label; give NAME=VALUE")
    return name, value


def label_change(text: str) -> tuple[str, str | None]:
    """NAME=VALUE to set a label, NAME- (a None) to remove it. Raises `UsageError`."""
    if "=" not in text and text.endswith("-"):
        return text[:-1], None
    return label_pair(text)
