import inspect

from tokenferry.stores import anthropic_profiles


def test_all_is_what_is_exported() -> None:
    names = vars(anthropic_profiles).items()
    public = {name for name, value in names if not name.startswith("_") and not inspect.ismodule(value)}
    assert public == set(anthropic_profiles.__all__)
