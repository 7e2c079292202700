import inspect

from tokenferry import upstream
from tokenferry.errors import TokenferryError


def test_all_is_what_is_exported() -> None:
    public = {
        name for name in vars(upstream) if not name.startswith("_") and not inspect.ismodule(vars(upstream)[name])
    }
    assert public == set(upstream.__all__)


def test_every_failure_is_one_of_tokenferry_s_and_has_a_kind_of_its_own() -> None:
    failures = upstream.UpstreamError.__subclasses__()
    assert issubclass(upstream.UpstreamError, TokenferryError)
    assert len({failure.kind for failure in failures}) == len(failures)
    assert {failure.__name__ for failure in failures} < set(upstream.__all__)
