from importlib import import_module

import pytest


@pytest.mark.parametrize("room", ["tokenferry.accounts", "tokenferry.config"])
def test_a_room_has_all_of_its_names_and_no_others(room: str) -> None:
    module = import_module(room)
    assert [name for name in module.__all__ if getattr(module, name, None) is None] == []
    with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018  # that is the point
