"""The site's reference: pages generated from the code for things that users look up."""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src" / "tokenferry"
sys.path.insert(0, str(SOURCE.parent))

import typer  # noqa: E402  # this tree's package, not an installed one

import tokenferry  # noqa: E402
from tokenferry import errors  # noqa: E402
from tokenferry.admin._openapi import description  # noqa: E402
from tokenferry.cli import help as help_  # noqa: E402
from tokenferry.cli._app import PANELS, app  # noqa: E402
from tokenferry.gateway.telemetry import metric_families, metrics  # noqa: E402
from tokenferry.limits._rules import AFTER_CONTENT, RULES, Rule  # noqa: E402
from tokenferry.providers import presets  # noqa: E402

_NO_TEXT: Final = "…"
_FEW: Final = 4
"""With fewer pairs of letters, a text is not a sentence."""


def commands() -> str:
    """Every command with its options and examples, in the order of `tokenferry --help`."""
    tree: Any = typer.main.get_command(app)
    context = tree.make_context("tokenferry", [], resilient_parsing=True)
    parts = [
        "# All commands",
        "[Commands](../commands.md) says what this page leaves out: exit codes, folders, details.",
    ]
    for panel, names in PANELS.items():
        parts.append(f"## {panel}")
        for name in names:
            parts += _command(tree.get_command(context, name), context, f"tokenferry {name}", 3)
    return "\n\n".join(parts)


def _command(command: Any, parent: Any, path: str, level: int) -> Iterator[str]:
    context = command.context_class(command, info_name=path.rpartition(" ")[2], parent=parent)
    yield f"{'#' * level} {path}"
    yield _paragraphs(command.help or "")
    inner = getattr(command, "commands", {})
    if not inner or command.invoke_without_command:
        yield f"```text\n{path} {' '.join(command.collect_usage_pieces(context))}\n```"
        rows = [one.get_help_record(context) for one in command.get_params(context) if one.name != "help"]
        yield _table(("", ""), [(f"`{names}`", _cell(text)) for names, text in filter(None, rows)])
        if command.epilog:
            yield f"```sh\n{_plain(command.epilog)}\n```"
    for name, one in inner.items():
        if not one.hidden:
            yield from _command(one, context, f"{path} {name}", level + 1)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _plain(epilog: str) -> str:
    lines = (line.strip() for line in epilog.replace("\b", "").splitlines())
    return "\n".join(line for line in lines if line and line != "Examples:")


def codes() -> str:
    """Exit codes, variables and files, as in `tokenferry help reference`."""
    return "\n\n".join(
        [
            "# Exit codes, variables, files",
            "The same in a terminal: `tokenferry help reference`.",
            "## Exit codes",
            _table(("code", "meaning"), [(f"`{code}`", text) for code, text in help_.EXIT_CODES.items()]),
            "## Variables",
            _table(("variable", ""), [(f"`{name}`", _cell(text)) for name, text in help_.VARIABLES.items()]),
            "## Files in the home",
            _table(("file", ""), [(f"`{name}`", text) for name, text in help_.FILES.items()]),
        ]
    )


def rest() -> str:
    """Every operation of the REST API, with its parameters and responses."""
    document = description()
    parts = ["# REST operations", "[The REST API](../api.md) shows how to use them. As data: `GET /openapi.json`."]
    failures: dict[str, tuple[str, str, str]] = {}
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            parts += [f"## {method.upper()} {path}", f"{one['summary']} {one.get('description', '')}".strip()]
            if body := one.get("requestBody"):
                parts.append(f"Body: {_reference(body['content']['application/json']['schema'])}.")
            parts.append(_table(("status", "", "body"), [row for row in _answers(one) if row[0] < "400"]))
            failures |= {row[0]: row for row in _answers(one) if row[0] >= "400"}
    parts += ["## Failures", "Of every operation.", _table(("status", "", "body"), [*failures.values()]), "## Bodies"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        required = set(schema.get("required", ()))
        rows = [
            (f"`{field}`", _kind(kind), "yes" if field in required else "", _cell(kind.get("description", "")))
            for field, kind in schema.get("properties", {}).items()
        ]
        parts += [f"### {name}", _cell(schema.get("description", "")), _table(("field", "type", "required", ""), rows)]
    return "\n\n".join(part for part in parts if part)


def _answers(operation: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for status, answer in operation["responses"].items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        yield status, _cell(answer["description"]), _reference(schema)


def _reference(schema: Mapping[str, Any]) -> str:
    if schema.get("type") == "array":
        return f"list of {_reference(schema['items'])}"
    name = schema.get("$ref", "").rpartition("/")[2]
    return f"[{name}](#{name.lower()})" if name else ""


def _kind(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    return _reference(schema) or str(schema.get("format") or schema.get("type") or "any")


def library() -> str:
    """Every public name, with its signature and docstring."""
    parts = ["# Python names", "[Python library](../library.md) shows how to use them."]
    for name in sorted(tokenferry.__all__, key=str.lower):
        value = getattr(tokenferry, name)
        parts += [f"## {name}", f"```python\n{_signature(name, value)}\n```"]
        parts.append(_docstring(value))
        if inspect.isclass(value) and not issubclass(value, Exception):
            parts += _methods(value)
    return "\n\n".join(part for part in parts if part)


def _signature(name: str, value: Any) -> str:
    try:
        return f"{name}{inspect.signature(value)}".replace("tokenferry.", "")
    except (TypeError, ValueError):
        return name


def _methods(kind: type) -> Iterator[str]:
    for name, value in inspect.getmembers(kind):
        own = next((vars(one)[name] for one in kind.__mro__ if name in vars(one)), None)
        if name.startswith("_") or kind.__module__.partition(".")[0] != "tokenferry":
            continue
        if isinstance(own, property):
            yield f"**`.{name}`** {_docstring(own)}".strip()
        elif inspect.isroutine(value):
            call = _signature(name, value).replace("(self, ", "(").replace("(self)", "()")
            yield f"**`.{call}`**\n\n{_docstring(value)}".strip()


def _docstring(value: Any) -> str:
    return re.sub(r"(?m)^ +", "", inspect.getdoc(value) or "")


def metric_names() -> str:
    """Every metric family of `GET /metrics`, with its labels."""
    return "\n\n".join(
        [
            "# Metric families",
            "[Logs and metrics](../metrics.md#metrics) says how to scrape them.",
            _table(("family", "kind", "labels", ""), sorted(_families())),
        ]
    )


def _families() -> Iterator[tuple[str, str, str, str]]:
    for module in (metric_families, metrics):
        for call in _calls(ast.parse(inspect.getsource(module)), {"counter", "gauge", "histogram"}):
            name, text, labels = (_evaluated(argument, vars(module)) for argument in call.args[:3])
            if isinstance(name, str):
                kind = ast.unparse(call.func)
                shown = f"`{name}_total`" if kind == "counter" else f"`{name}`"
                yield shown, kind, ", ".join(labels), _cell(text)


def _calls(tree: ast.AST, names: Iterable[str]) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in names)


def _evaluated(node: ast.expr, names: Mapping[str, Any]) -> Any:
    try:
        return eval(compile(ast.Expression(node), "reference", "eval"), dict(names))  # this tree's own code
    except NameError:
        return None


def troubleshooting() -> str:
    """Every error's text from the code, under its class, for users who search for a message."""
    parts = [
        "---\nhide: [toc]\nsearch: {boost: 4}\n---\n# Troubleshooting by error text",
        "Paste your message into the search. `…` stands for a name, a path or a number.",
        "[Errors](../errors.md) lists those of the gateway by status.",
    ]
    texts = _error_texts()
    for name in sorted(texts, key=lambda one: (getattr(errors, one).exit_code, one)):
        kind = getattr(errors, name)
        parts += [f"## {name}", f"{_docstring(kind)} Exit code {kind.exit_code}; in logs and metrics `{kind.word()}`."]
        for text in texts[name]:
            what, _, cure = " ".join(text.replace("`", "'").split()).rpartition("; ")
            parts += [f"### `{what or cure}`", cure if what else ""]
    return "\n\n".join(parts)


def _error_texts() -> Mapping[str, Iterable[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if path.is_relative_to(SOURCE / "sandbox"):
            continue
        for call in _calls(ast.parse(path.read_text(encoding="utf-8")), errors.__all__):
            if call.args and len(re.findall("[a-z]{2}", text := _text(call.args[0]))) > _FEW:
                found.setdefault(ast.unparse(call.func), set()).add(text)
    return {name: sorted(texts, key=lambda text: text.strip(f"{_NO_TEXT} ").lower()) for name, texts in found.items()}


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(str(text)):
            return text
        case ast.JoinedStr(values):
            return "".join(_text(value) for value in values)
        case _:
            return _NO_TEXT


def preset_table() -> str:
    """Every preset of [[providers]], with the page that its address is from."""
    rows = [
        (
            f"`{one.name}`",
            _cell(one.title),
            f"`{one.base_url}`",
            one.wire_format,
            f"`{one.key_header}`",
            f"`{one.env_var}`" if one.env_var else "",
            f"[{one.checked}]({one.source}){', second hand' if one.second_hand else ''}",
        )
        for one in presets().values()
    ]
    head = ("name", "vendor", "address", "wire format", "key header", "variable", "source, seen on")
    return "\n\n".join(
        [
            "# Presets",
            "Add one with `tokenferry provider add NAME`. [Models and providers](../providers.md) shows more.",
            _table(head, rows),
        ]
    )


def limit_rules() -> str:
    """Every rule for an upstream's answer, in the order of matching."""
    return "\n\n".join(
        [
            "# Limit rules",
            "The first rule that fits an upstream's answer decides. [Limits](../limits.md) says what the words mean.",
            "Try an answer of yours: `tokenferry explain response FILE`.",
            _table(
                ("status", "cause", "about", "what follows", "cooldown", "reason"),
                [
                    (_statuses(rule), f"`{rule.cause}`", _about(rule), rule.action, _cooldown(rule), _cell(rule.reason))
                    for rule in (*RULES, AFTER_CONTENT)
                ],
            ),
        ]
    )


def _statuses(rule: Rule) -> str:
    if isinstance(rule.statuses, range):
        return f"{rule.statuses.start} to {rule.statuses.stop - 1}"
    return ", ".join(str(status) for status in range(1000) if status in rule.statuses)


def _about(rule: Rule) -> str:
    return rule.scope if rule.models == "all" else f"{rule.scope}, for the {rule.models}"


def _cooldown(rule: Rule) -> str:
    if rule.hold in {"window", "retry-after", "date"}:
        return f"{rule.hold}, else {rule.otherwise}"
    return "" if rule.hold == "none" else rule.hold


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = (f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
    return "\n".join(lines)


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/commands.md": commands,
    "reference/codes.md": codes,
    "reference/rest.md": rest,
    "reference/library.md": library,
    "reference/metrics.md": metric_names,
    "reference/troubleshooting.md": troubleshooting,
    "reference/presets.md": preset_table,
    "reference/limits.md": limit_rules,
}
"""Each page's address, and the function that makes it."""
