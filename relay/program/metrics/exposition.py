"""The metrics as text, in the format that the scraper asks for: Prometheus' own, or OpenMetrics.

This is the one module that imports prometheus-client, which takes 40 ms and 6 MB. It is imported only when something
listens for scrapes.
"""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from typing_extensions import override

from relay.program.metrics.measurement import Measurement
from relay.program.metrics.metric_table import metrics_of
from relay.values.histogram import Histogram
from relay.values.text import escaped

_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


class _Families(Collector):
    def __init__(self, seen: Measurement) -> None:
        self._seen = seen

    @override
    def collect(self) -> Iterator[Metric]:
        for metric, values in metrics_of(self._seen):
            if metric.type == "histogram":
                histogram = HistogramMetricFamily(metric.name, metric.sentence, labels=metric.labels)
                for labels, value in values:
                    if isinstance(value, Histogram):
                        buckets = [
                            ("+Inf" if bound == float("inf") else str(bound), float(count))
                            for bound, count in value.cumulative()
                        ]
                        histogram.add_metric([*map(escaped, labels)], buckets, value.sum)
                yield histogram
                continue
            family = _FAMILIES[metric.type](metric.name, metric.sentence, labels=metric.labels)
            for labels, value in values:
                if not isinstance(value, Histogram):
                    family.add_metric([*map(escaped, labels)], value)
            yield family


def exposition(seen: Measurement, accept: str) -> tuple[str, bytes]:
    """The content type and the text for a scraper with this Accept header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(seen))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)
