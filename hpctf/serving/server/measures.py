"""What ``/metrics`` shows, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from hpctf.serving.server.limits import Limits

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Measures:
    """Counters of one server, and how much of its limits is taken."""

    def __init__(self, limits: Limits) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "hpctf_requests",
            "Requests by what they ask for and how they were answered.",
            ["kind", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "hpctf_request_seconds",
            "Seconds from a request's headers to its answer.",
            ["kind"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "hpctf_batch_requests",
            "Requests that ran together.",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self._registry,
        )

        for name, words, value in (
            ("connections_waiting", "Connections that wait for an answer.", lambda: limits.busy),
            ("request_bytes", "Bytes of requests that are not answered.", lambda: limits.taken),
        ):
            Gauge(f"hpctf_{name}", words, registry=self._registry).set_function(value)
        self._of_kind: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, kind: str, status: int, seconds: float) -> None:
        """Note an answer."""
        found = self._of_kind.get((kind, status))
        if found is None:
            found = self._requests.labels(kind, status), self._seconds.labels(kind)
            self._of_kind[kind, status] = found
        requests, taken = found
        requests.inc()
        taken.observe(seconds)

    def batches(self, model: str) -> Callable[[int], None]:
        """Return what notes how many requests a model has run together."""
        return self._batches.labels(model).observe  # type: ignore[no-any-return]

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return bytes(generate_latest(self._registry))
