"""One meaning a name: no two classes of the package have the same one."""

import ast
from collections import defaultdict
from pathlib import Path

import tokenferry

ROOT = Path(tokenferry.__path__[0])
ALLOWED: dict[str, str] = {}
"""Names that two classes may have, and why."""


def classes() -> dict[str, list[str]]:
    """The modules of each public class. The sandbox plays a vendor, and names things after the vendor's."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT)
        if module.parts[0] != "sandbox":
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(module.as_posix())
    return found


def test_no_two_public_classes_have_the_same_name() -> None:
    doubles = {name: modules for name, modules in classes().items() if len(modules) > 1}
    assert {name: modules for name, modules in doubles.items() if name not in ALLOWED} == {}
    assert ALLOWED.keys() <= doubles.keys(), "what is no double any more needs no leave"
