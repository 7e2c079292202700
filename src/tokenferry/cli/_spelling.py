"""Other names of commands: aliases that work silently, and old spellings whose error names the new one."""

from collections.abc import Sequence
from typing import Final

from tokenferry.errors import UsageError

_HIDDEN: Final = {
    "accounts": ("account",),
    "classify": ("explain", "response"),
    "cooldowns": ("cooldown",),
    "keys": ("key",),
    "models": ("model",),
    "profiles": ("profile",),
    "providers": ("provider",),
    "route": ("explain", "route"),
    "seal": ("encryption", "enable"),
    "unseal": ("encryption", "disable"),
    "why": ("explain", "request"),
}
_RENAMED: Final = (
    (("keep", "--once"), "refresh --due"),
    (("keep", "--swap"), "refresh --watch --switch-claude-code"),
    (("keep",), "refresh --watch"),
    (("swap",), "claude-code switch --next"),
    (("publish", "--list"), "profile list"),
    (("publish",), "profile publish"),
    (("unpublish",), "profile unpublish"),
    (("use", "--for"), "claude-code switch NAME"),
    (("explain", "--account"), "explain account NAME"),
    (("export", "--with-chain"), "export NAME --with-refresh-token"),
    (("key", "label"), "key set NAME --label K=V"),
    (("key", "create", "--admin"), "key create NAME --role admin"),
    (("service", "install", "--swap"), "service install --switch-claude-code"),
)


def current(words: Sequence[str]) -> list[str]:
    """The command line in today's spelling. Raises `UsageError` for an old spelling, naming the new one."""
    first, *rest = words
    if first == "seal" and "--rotate" in rest:
        return ["encryption", "rotate-key", *(word for word in rest if word != "--rotate")]
    if found := _HIDDEN.get(first):
        return [*found, *rest]
    own = words[: words.index("--")] if "--" in words else words  # the rest belongs to another program
    for old, new in _RENAMED:
        if _is_at_start(old, own):
            raise UsageError(f"tokenferry {' '.join(old)} is now: tokenferry {new}")
    if first == "explain" and rest and (rest[0] == "last" or rest[0].startswith("tf_")):
        return ["explain", "request", *rest]
    if first == "explain" and rest and rest[0].startswith("--") and rest[0] != "--help":
        return ["explain", "credentials", *rest]
    return list(words)


def _is_at_start(old: Sequence[str], words: Sequence[str]) -> bool:
    """Whether `words` begins with the commands of `old` and contains its options."""
    commands = [word for word in old if not word.startswith("--")]
    options = {word.partition("=")[0] for word in words}
    return list(words[: len(commands)]) == commands and options.issuperset(old)
