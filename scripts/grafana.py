"""`make grafana`: write contrib/grafana-dashboard.json from the table of panels below.

It needs Grafana 10 or newer (Dashboards, New, Import). The data source is a variable, so it fits any name.
"""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

PAGE: Final = Path(__file__).resolve().parent.parent / "contrib" / "grafana-dashboard.json"

_HERE: Final = 'provider=~"$provider", account=~"$account"'
_OF_ACCOUNT: Final = 'account=~"$account"'
_WIDTH: Final = 24
_HEIGHT: Final = 8


class Panel(NamedTuple):
    """A panel: its expressions by legend, and its display options."""

    title: str
    expressions: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    text: str = ""
    width: int = 8
    most: float | None = None
    """The upper end of the axis."""


def _sum(
    metric: str, *by: str, only: str = _HERE, over: str = "$__rate_interval", per: Literal["rate", "increase"] = "rate"
) -> str:
    """A counter's rate or increase, summed by the given labels."""
    labels = f" by ({', '.join(by)}) " if by else ""
    chosen = f"{{{only}}}" if only else ""
    return f"sum{labels}({per}({metric}{chosen}[{over}]))"


def _quantiles(metric: str, *by: str) -> dict[str, str]:
    legend = "".join(f" {{{{{label}}}}}" for label in by)
    bucket = _sum(f"{metric}_bucket", "le", *by)
    return {
        f"{name}{legend}": f"histogram_quantile({share}, {bucket})" for name, share in (("p50", 0.5), ("p95", 0.95))
    }


_SERVING: Final = (
    Panel(
        "Answered well",
        {
            "": f"""{_sum("tokenferry_requests_total", only=f'{_HERE}, status=~"2.."')}"""
            f""" / {_sum("tokenferry_requests_total")}"""
        },
        *("percentunit", "stat", "The share of requests that ended with a status of 200 to 299.", 4),
    ),
    Panel(
        "Under way",
        {
            "requests": "sum(tokenferry_requests_in_flight)",
            "streams": "sum(tokenferry_streams_in_flight)",
            "waiting": "sum(tokenferry_requests_waiting)",
        },
        *("short", "stat", "Waiting: for the capacity of an account.", 4),
    ),
    Panel("Requests by status", {"{{status}}": _sum("tokenferry_requests_total", "status")}, "reqps"),
    Panel(
        "Errors",
        {"{{provider}} {{error}}": _sum("tokenferry_errors_total", "provider", "error", only='provider=~"$provider|"')},
        "reqps",
        text="Responses of the gateway itself have no provider.",
    ),
    Panel("Requests by account", {"{{account}}": _sum("tokenferry_requests_total", "account")}, "reqps"),
    Panel("Accounts by state", {"{{state}}": "sum by (state) (tokenferry_accounts) > 0"}),
    Panel(
        "Failed upstream exchanges",
        {"{{upstream}} {{kind}}": _sum("tokenferry_upstream_failures_total", "upstream", "kind", only="")},
        "ops",
    ),
)
_LIMITS: Final = (
    Panel(
        "Windows used",
        {"{{account}} {{window}}": f"max by (account, window) (tokenferry_window_used_ratio{{{_OF_ACCOUNT}}})"},
        "percentunit",
        most=1,
    ),
    Panel(
        "Windows end in",
        {
            "{{account}} {{window}}": "max by (account, window) (tokenferry_window_reset_timestamp_seconds"
            f"{{{_OF_ACCOUNT}}}) - time()"
        },
        "s",
    ),
    Panel("Cooldowns", {"{{name}} {{cause}}": "sum by (kind, name, cause) (tokenferry_cooldowns)"}),
    Panel(
        "Refused for a rate",
        {"{{side}}": _sum("tokenferry_rate_refusals_total", "side", only="")},
        "reqps",
        text="Client: the rate of a client key. Upstream: the rate of an account or provider.",
    ),
    Panel(
        "Budgets used",
        {
            "{{subject}} {{key}} a {{period}} ({{unit}})": "max by (subject, unit, period, key) "
            "(tokenferry_budget_spent / tokenferry_budget_limit)"
        },
        "percentunit",
        most=1,
    ),
    Panel(
        "Refused by budgets",
        {"{{subject}} {{key}}": _sum("tokenferry_budget_refusals_total", "subject", "key", only="")},
        "reqps",
    ),
)
_MONEY: Final = (
    Panel(
        "Dollars an hour",
        {"{{account}} ({{billing}})": f"{_sum('tokenferry_cost_usd_total', 'account', 'billing')} * 3600"},
        "currencyUSD",
        text="Plan: what a subscription covers, at list price; it is not paid.",
    ),
    Panel(
        "Dollars in this range, by model",
        {"{{model}}": _sum("tokenferry_cost_usd_total", "model", over="$__range", per="increase")},
        *("currencyUSD", "bargauge"),
    ),
    Panel("Tokens a second", {"{{kind}}": _sum("tokenferry_tokens_total", "kind")}),
    Panel(
        "Input read from the cache",
        {
            "": f"""{_sum("tokenferry_tokens_total", only=f'{_HERE}, kind="cache_read"')}"""
            f""" / {_sum("tokenferry_tokens_total", only=f'{_HERE}, kind!="output"')}"""
        },
        "percentunit",
        most=1,
    ),
    Panel(
        "Without a known price",
        {
            "{{model}}": _sum(
                *("tokenferry_cost_usd_total", "model"),
                only=f'{_HERE}, source="unknown"',
                over="$__range",
                per="increase",
            )
        },
        *("currencyUSD", "bargauge", "Counted as $5 and $25 a million tokens; declare the price with [[prices]]."),
    ),
    Panel("Bytes", {"{{direction}}": _sum("tokenferry_body_bytes_total", "direction", only="")}, "Bps"),
)
_LATENCY: Final = (
    Panel("To the first content", _quantiles("tokenferry_first_byte_seconds"), "s"),
    Panel("To the end of the answer", _quantiles("tokenferry_request_seconds"), "s"),
    Panel("To the first content, by model", _quantiles("tokenferry_first_byte_seconds", "model"), "s"),
)
_LOGINS: Final = (
    Panel(
        "Refreshes in an hour",
        {
            "{{account}} {{outcome}}": _sum(
                *("tokenferry_refreshes_total", "account", "outcome"), only=_OF_ACCOUNT, over="1h", per="increase"
            )
        },
        text="Shared: another process refreshed the token.",
    ),
    Panel(
        "Refreshes after a refused token, in an hour",
        {
            "{{account}} {{outcome}}": _sum(
                *("tokenferry_forced_refreshes_total", "account", "outcome"),
                only=_OF_ACCOUNT,
                over="1h",
                per="increase",
            )
        },
        text="Capped: the limit on such refreshes was reached.",
    ),
    Panel(
        "Since made or renewed",
        {"{{account}}": f"max by (account) (tokenferry_login_age_seconds{{{_OF_ACCOUNT}}})"},
        "s",
    ),
)
_GATEWAY: Final = (
    Panel(
        "Waiting for the ledger",
        {"requests": "sum(tokenferry_ledger_queue)", "seconds": "max(tokenferry_ledger_lag_seconds)"},
    ),
    Panel(
        "Written and missing",
        {
            "written": _sum("tokenferry_ledger_written_total", only=""),
            "missing": _sum("tokenferry_ledger_dropped_total", only=""),
        },
        "ops",
    ),
    Panel("ledger.db", {"bytes": "max(tokenferry_ledger_bytes)"}, "bytes"),
    Panel("Rows to delete", {"rows": "max(tokenferry_ledger_rows_to_delete)"}),
    Panel("Request bodies in memory", {"bytes": "sum(tokenferry_request_memory_bytes)"}, "bytes"),
    Panel(
        "Upstream connections",
        {
            "{{upstream}} {{state}}": "sum by (upstream, state) (tokenferry_upstream_connections)",
            "opened": _sum("tokenferry_upstream_connections_opened_total", only=""),
        },
    ),
    Panel(
        "Configuration reloads",
        {"{{outcome}}": _sum("tokenferry_config_reloads_total", "outcome", only="", over="1h", per="increase")},
    ),
    Panel("Signed in at the dashboard", {"sessions": "tokenferry_dashboard_sessions"}),
    Panel(
        "Log lines dropped in an hour",
        {"lines": _sum("tokenferry_access_log_lines_dropped_total", only="", over="1h", per="increase")},
    ),
)
ROWS: Final = {
    "Are we serving?": _SERVING,
    "Limits": _LIMITS,
    "Money and tokens": _MONEY,
    "Latency": _LATENCY,
    "Logins and refreshes": _LOGINS,
    "Ledger and gateway": _GATEWAY,
}


def _source() -> dict[str, str]:
    return {"type": "prometheus", "uid": "${datasource}"}


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    limits = {"min": 0} | ({} if panel.most is None else {"max": panel.most})
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _source(),
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, **limits}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if panel.kind == "timeseries" else {},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _source(),
                "expr": expression,
                "legendFormat": legend or "__auto",
            }
            for at, (legend, expression) in enumerate(panel.expressions.items())
        ],
    }


def _panels() -> Iterator[dict[str, Any]]:
    numbers, y = count(1), 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
        yield {"id": next(numbers), "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > _WIDTH:
                x, y = 0, y + _HEIGHT
            yield _panel(panel, next(numbers), x, y)
            x += panel.width
        y += _HEIGHT


def _variable(label: str) -> dict[str, Any]:
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": _source(),
        "query": {"query": f"label_values(tokenferry_requests_total, {label})", "refId": label},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> str:
    """The whole file."""
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    content = {
        "title": "tokenferry",
        "uid": "tokenferry",
        "tags": ["tokenferry"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source, _variable("provider"), _variable("account")]},
        "panels": [*_panels()],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(dashboard(), encoding="utf-8")
