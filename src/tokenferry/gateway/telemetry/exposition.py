"""Metric families as plain values, which other processes can read, and their rendering for Prometheus."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from tokenferry.gateway.telemetry.counters import BUCKETS, Histogram, Route

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Rows: TypeAlias = list[tuple[list[str], float]]

_BOUNDS: Final = (*map(str, BUCKETS), "+Inf")


class MetricFamily(NamedTuple):
    """Samples of one name. A row has the labels' values, and a number, or a histogram's counts and sum."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    text: str
    labels: Sequence[str]
    rows: list[tuple[list[str], float | list[float]]]


def counter(name: str, text: str, labels: Sequence[str], rows: Rows) -> MetricFamily:
    return MetricFamily("counter", name, text, labels, [*rows])


def gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> MetricFamily:
    return MetricFamily("gauge", name, text, labels, [*rows])


def histogram(name: str, text: str, labels: Sequence[str], histograms: Mapping[Route, Histogram]) -> MetricFamily:
    rows = [([*route], [*one.counts, one.sum]) for route, one in histograms.items()]
    return MetricFamily("histogram", name, text, labels, [*rows])


def labelled(label: str, by_value: Mapping[str, Sequence[MetricFamily]]) -> list[MetricFamily]:
    """Join the families of several sources, and add a label with the source to each row."""
    joined: dict[str, MetricFamily] = {}
    for value, families in by_value.items():
        for family in families:
            mine = joined.get(family.name)
            if mine is None:
                mine = joined[family.name] = family._replace(labels=[*family.labels, label], rows=[])
            mine.rows.extend(([*values, value], sample) for values, sample in family.rows)
    return list(joined.values())


def render(families: Sequence[MetricFamily], accept: str) -> tuple[bytes, str]:
    """Give the text and its content type. The first call imports a library, which takes 60 ms."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415  # needed only for metrics
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415  # see above

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(families))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


class _Collector:
    def __init__(self, families: Sequence[MetricFamily]) -> None:
        self._families = families

    def collect(self) -> "Iterator[Metric]":
        return map(_metric, self._families)


def _metric(family: MetricFamily) -> "Metric":
    from prometheus_client import core  # noqa: PLC0415  # see `render`

    metric: core.CounterMetricFamily | core.GaugeMetricFamily | core.HistogramMetricFamily
    match family.kind:
        case "histogram":
            metric = core.HistogramMetricFamily(family.name, family.text, labels=family.labels)
            for values, sample in family.rows:
                assert isinstance(sample, list)
                buckets = list(zip(_BOUNDS, accumulate(sample[:-1]), strict=True))
                metric.add_metric(values, buckets, sample[-1])
            return metric
        case "counter":
            metric = core.CounterMetricFamily(family.name, family.text, labels=family.labels)
        case "gauge":
            metric = core.GaugeMetricFamily(family.name, family.text, labels=family.labels)
    for values, sample in family.rows:
        assert not isinstance(sample, list)
        metric.add_metric(values, sample)
    return metric
