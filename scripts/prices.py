"""`make prices`: write src/tokenferry/prices/table.json from the package genai-prices.

The package is installed into a folder of its own and read by a child process: neither tokenferry nor its tests need it.
Only prices that apply to text requests are taken.
"""

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

_TABLE: Final = Path(__file__).resolve().parent.parent / "src" / "tokenferry" / "prices" / "table.json"
_VENDORS: Final = (
    *("anthropic", "cerebras", "deepseek", "fireworks", "google", "groq", "minimax", "mistral", "moonshotai", "novita"),
    *("openai", "openrouter", "together", "x-ai", "zai", "zhipuai"),
)
_RATES: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "web_searches_kcount": "web_search",
}


def main() -> None:
    """Write the table; in the child process, print it."""
    if "--child" in sys.argv:
        print(_table())
        return
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "genai-prices"], check=True)
        table = subprocess.run([python, __file__, "--child"], check=True, capture_output=True, text=True).stdout
    _TABLE.write_text(table, encoding="utf-8")
    print(f"{_TABLE}: {len(json.loads(table)['vendors'])} vendors")


def _table() -> str:
    from importlib.metadata import version  # noqa: PLC0415  # only in the child process

    from genai_prices.data import providers  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415  # see above

    known = {vendor.id: vendor for vendor in providers}
    vendors = []
    for name in _VENDORS:
        models = {model.id: entry for model in known[name].models if (entry := _model(model)) is not None}
        lines = ",\n".join(f"      {json.dumps(one)}: {json.dumps(entry)}" for one, entry in models.items())
        pattern = json.dumps(known[name].api_pattern)
        vendors.append(f'    "{name}": {{\n      "url": {pattern},\n      "models": {{\n{lines}\n      }}\n    }}')
    head = {
        "dated": f"{datetime.now(UTC):%Y-%m-%d}",
        "source": f"genai-prices {version('genai-prices')}",
    }
    return json.dumps(head)[:-1] + ',\n  "vendors": {\n' + ",\n".join(vendors) + "\n  }\n}"


def _model(model: Any) -> dict[str, Any] | None:
    """A model's names and dated prices; None if it is not billed by tokens."""
    conditional = model.prices if isinstance(model.prices, list) else [None]
    prices = []
    for one in conditional:
        rates = model.prices if one is None else one.prices
        entry = dict(_rates(rates))
        if "input" not in entry or "output" not in entry:
            return None
        constraint = None if one is None else one.constraint
        if constraint is not None and hasattr(constraint, "start_date"):
            entry = {"from": constraint.start_date.isoformat(), **entry}
        elif constraint is not None:
            hours = f"{constraint.start_time:%H:%M}-{constraint.end_time:%H:%M}"
            entry = {"hours": hours, **entry}
        prices.append(entry)
    names = sorted({*_names(model.match)} - {model.id})
    return ({"names": names} if names else {}) | {"prices": prices}


def _rates(price: Any) -> Iterator[tuple[str, Any]]:
    """Dollars per million tokens, or per thousand searches; a tier's prices are listed with its start."""
    tiers: dict[str, dict[str, Any]] = {}
    for field, name in _RATES.items():
        value = getattr(price, field, None)
        if value is not None and hasattr(value, "base"):
            for tier in value.tiers:
                tiers.setdefault(str(tier.start), {})[name] = _number(tier.price)
            value = value.base
        if value is not None:
            yield name, _number(value)
    if tiers:
        yield "above", tiers


def _number(value: Any) -> float | int:
    return int(value) if value == int(value) else float(value)


def _names(clause: Any) -> Iterator[str]:
    """The names that a rule declares; a rule that only matches part of a name declares none."""
    for part in getattr(clause, "or_", ()):
        yield from _names(part)
    name = getattr(clause, "equals", None) or getattr(clause, "starts_with", "")
    if name and name[-1].isalnum():
        yield name


if __name__ == "__main__":
    main()
