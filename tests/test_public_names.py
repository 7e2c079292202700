import ast
import inspect
import pkgutil
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import tokenferry
from tokenferry import errors

ABSENT = {"tokenferry.postgres"} if find_spec("psycopg") is None else set()
PACKAGES = [
    module.name
    for module in pkgutil.walk_packages(tokenferry.__path__, "tokenferry.")
    if module.ispkg and module.name not in ABSENT
]
ROOMS = [
    f"tokenferry.{room}"
    for room in (
        "accounts",
        "admin",
        "background_refresh",
        "interchange",
        "limits",
        "login",
        "oauth",
        "pool",
        "providers",
        "refresh",
        "service",
        "state",
        "stores",
    )
]
MODULES = [
    f"tokenferry.{name}"
    for name in ("audit", "config", "credentials", "errors", "secret", "settings", "policy_statement")
]
HOME_OF: dict[str, str] = {
    name: f"tokenferry.{module}" for module, names in vars(tokenferry)["_ROOMS"].items() for name in names
}


def test_every_public_name_can_be_imported() -> None:
    scope: dict[str, object] = {}
    exec("from tokenferry import *", scope)
    assert set(scope) - {"__builtins__"} == set(tokenferry.__all__)


def test_dir_shows_the_public_names_alone() -> None:
    assert dir(tokenferry) == sorted(tokenferry.__all__) == sorted([*HOME_OF, "gateway"])
    assert len(set(tokenferry.__all__)) == len(tokenferry.__all__)


def test_a_type_checker_sees_the_same_names_in_the_same_places() -> None:
    tree = ast.parse(Path(str(tokenferry.__file__)).read_text(encoding="utf-8"))
    seen = {
        alias.asname: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tokenferry")
        for alias in node.names
        if alias.asname == alias.name
    }
    assert seen == HOME_OF


@pytest.mark.parametrize(("name", "home"), HOME_OF.items())
def test_a_name_is_the_very_thing_of_its_module(name: str, home: str) -> None:
    assert getattr(tokenferry, name) is getattr(import_module(home), name)
    assert name in import_module(home).__all__


def test_the_room_of_a_public_functions_name_is_that_function_whoever_imported_it_first() -> None:
    room: object = import_module("tokenferry.gateway")
    assert callable(room)
    assert [vars(tokenferry)["gateway"], tokenferry.__getattr__("gateway")] == [room, room]


def test_an_unknown_name_is_an_attribute_error_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'tokenferry' has no attribute 'nonsense'"):
        getattr(tokenferry, "nonsense")  # noqa: B009  # a type checker knows that it isn't there
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        exec("from tokenferry import nonsense", {})
    assert not hasattr(tokenferry, "__wrapped__")


def public(package: str) -> dict[str, object]:
    things = vars(import_module(package)).items()
    return {name: thing for name, thing in things if not name.startswith("_") and not inspect.ismodule(thing)}


def exported(module: str) -> list[str]:
    return getattr(import_module(module), "__all__", [])


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_exports_exactly_what_it_imports_and_its_modules_are_private(room: str) -> None:
    assert not [name for name in exported(room) if not hasattr(import_module(room), name)]  # which imports the deferred
    assert set(public(room)) - {"TYPE_CHECKING", "deferred"} == set(exported(room))
    modules = [one.name for one in pkgutil.iter_modules(import_module(room).__path__) if not one.ispkg]
    assert modules
    assert not [name for name in modules if not name.startswith("_")]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_has_a_public_thing_of_its_own_that_it_does_not_export(package: str) -> None:
    own = {name for name, thing in public(package).items() if str(getattr(thing, "__module__", "")).startswith(package)}
    assert own <= set(exported(package))


@pytest.mark.parametrize("name", [*MODULES, *PACKAGES])
def test_what_is_exported_is_there_once(name: str) -> None:
    names = exported(name)
    assert len(names) == len(set(names))
    assert not [one for one in names if not hasattr(import_module(name), one)]


def below(error: type[errors.TokenferryError]) -> list[type[errors.TokenferryError]]:
    return [error, *(deeper for child in error.__subclasses__() for deeper in below(child))]


def test_every_error_is_one_of_ours_is_exported_and_is_in_the_picture() -> None:
    own = {error.__name__: error for error in below(errors.TokenferryError) if error.__module__ == errors.__name__}
    assert {*own, "extract_login_url_from_error", "nearest"} == set(errors.__all__)
    assert {error.exit_code for error in own.values()} == {1, 2, 3, 4, 5, 6, 7, 8, 9}
    drawn = [line.split()[1] for line in str(errors.__doc__).splitlines() if line.strip()[:1] in {"*", "x", "+"}]
    assert sorted(drawn) == sorted(own)


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tokenferry.__version__ == project["version"]
