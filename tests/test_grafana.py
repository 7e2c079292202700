"""The dashboard and the alert rules are those of this tree, and name metrics that there are."""

import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
RULES: Final = (ROOT / "contrib" / "prometheus-rules.yml").read_text()
METRIC: Final = re.compile(r"tokenferry_[a-z_]+")


def script() -> Any:
    spec = spec_from_file_location("grafana", ROOT / "scripts" / "grafana.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_dashboard_is_what_the_script_writes() -> None:
    made = script()
    assert made.PAGE.read_text() == made.dashboard(), "run: make grafana"


def test_each_metric_of_dashboard_and_rules_is_on_the_page_of_metrics() -> None:
    known = set(METRIC.findall((ROOT / "docs" / "metrics.md").read_text()))
    used = set(METRIC.findall(json.dumps(script().dashboard()) + RULES))
    assert {name.removesuffix("_bucket") for name in used} - known == set()


def test_each_metric_of_the_page_is_drawn_but_those_by_client_key() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text().partition("\n## Metrics")[2].partition("\n## ")[0]
    used = {name.removesuffix("_bucket") for name in METRIC.findall(script().dashboard())}
    told_elsewhere = {"tokenferry_budget_reserved", "tokenferry_budget_reset_timestamp_seconds"}
    assert {name for name in METRIC.findall(page) if "_key_" not in name} - used == told_elsewhere


def test_no_two_panels_overlap() -> None:
    places = [panel["gridPos"] for panel in json.loads(script().dashboard())["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
