"""What the gateway counts. Plain numbers on the hot path, read by Prometheus when it asks."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class Meter(Collector):
    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.connections = 0
        self.frames_up = 0
        self.frames_down = 0
        self.throttled = 0
        self.stalled = 0
        self.taps = {"blocked": 0, "late": 0, "failed": 0}
        self.handshakes: dict[str, int] = {}
        self._asked = Histogram(
            "gateway_decision_seconds", "How long a tap waited for its decision", buckets=BUCKETS_S, registry=registry
        )
        if registry is not None:
            registry.register(self)

    def asked(self, seconds: float) -> None:
        self._asked.observe(seconds)

    def answered(self, status: int) -> None:
        """A handshake's HTTP status."""
        self.handshakes[str(status)] = self.handshakes.get(str(status), 0) + 1

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("gateway_connections", "Chargers connected here", self.connections)
        frames = CounterMetricFamily("gateway_frames", "Messages relayed", labels=["direction"])
        frames.add_metric(["to_steve"], self.frames_up)
        frames.add_metric(["to_charger"], self.frames_down)
        yield frames
        handshakes = CounterMetricFamily("gateway_handshakes", "Handshakes by answer", labels=["status"])
        for status, count in self.handshakes.items():
            handshakes.add_metric([status], count)
        yield handshakes
        taps = CounterMetricFamily("gateway_taps", "Taps blocked, or passed on for want of an answer", labels=["how"])
        for how, count in self.taps.items():
            taps.add_metric([how], count)
        yield taps
        yield CounterMetricFamily("gateway_throttled", "Pauses of a charger that sent too much", self.throttled)
        yield CounterMetricFamily("gateway_stalled", "Connections cut because the peer did not read", self.stalled)
