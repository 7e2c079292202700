import inspect

from tokenferry import claude_code


def test_all_is_what_is_exported() -> None:
    names = vars(claude_code).items()
    public = {name for name, value in names if not name.startswith("_") and not inspect.ismodule(value)}
    assert public == set(claude_code.__all__)
