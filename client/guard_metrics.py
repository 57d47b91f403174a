"""What a guard tells its own officer in Prometheus' form: requests, their time, and the budget's figures.

They are served on ``metrics.sock`` in the site's own folder and nowhere else (PRIVACY P17). They count requests
and read the ledger: nothing here holds texts, losses, sizes or lengths. Times of rounds do depend on the data,
which is why no coordinator may see them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from client.policy_file import read_policy
from client.site_directory import SiteDirectory
from common.errors import HanseError
from common.metrics_server import serving_on_socket
from common.privacy.budget import PrivacyBudget
from common.privacy.ledger.book import Ledger
from common.privacy.spending import Spending

__all__ = ["GuardMetrics", "Kind", "Outcome", "Request", "metrics_socket_of"]

Kind = Literal["describe", "train", "receipt"]

Outcome = Literal["answered", "refused", "not-ready", "busy", "damaged", "broken-off", "failed"]
"""``refused``: by policy or budget, or the round failed in a way that is told in words. ``not-ready``: the ledger
does not verify, or the like. ``damaged``: no message. ``broken-off``: the caller left."""

_BUCKETS = (0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)
"""Seconds; coarse, for an operator's eye."""


def metrics_socket_of(directory: SiteDirectory) -> Path:
    """Where a site's guard serves its metrics."""
    return directory.path.absolute() / "metrics.sock"


@dataclass
class Request:
    """One request while it is answered."""

    outcome: Outcome = "failed"
    """Set by whoever answers; unless it is, the request counts as failed."""


class GuardMetrics:
    """The guard's own figures."""

    def __init__(self, directory: SiteDirectory) -> None:
        """``directory``: the site's folder, whose ledger is read at each scrape."""
        self.registry = CollectorRegistry()
        self._socket = metrics_socket_of(directory)
        self._requests = Counter(
            "hanse_guard_requests", "Requests by kind and outcome.", ["kind", "outcome"], registry=self.registry
        )
        self._seconds = Histogram(
            "hanse_guard_request_seconds",
            "Time that a request took, the wait for its turn included.",
            ["kind"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._running = Gauge("hanse_guard_requests_running", "Requests under way.", registry=self.registry)
        self.registry.register(_BudgetFigures(directory))

    @contextmanager
    def request(self, kind: Kind) -> Iterator[Request]:
        """Count and time one request; its outcome is what is set on the value, whatever is raised."""
        started, request = time.monotonic(), Request()
        self._running.inc()
        try:
            yield request
        finally:
            self._running.dec()
            self._requests.labels(kind, request.outcome).inc()
            self._seconds.labels(kind).observe(time.monotonic() - started)

    def serving(self) -> AbstractContextManager[None]:
        """Serve on the site's own socket within the context.

        Raises:
            BadInput: the socket's path is too long.
            RunFailed: nothing can be bound there.
        """
        return serving_on_socket(self.registry, self._socket)


class _BudgetFigures(Collector):
    """The dataset's budgets, as the ledger has them when asked."""

    def __init__(self, directory: SiteDirectory) -> None:
        self._directory = directory
        self._url: str | None = None
        self._ledger: Ledger | None = None

    def describe(self) -> Iterator[Metric]:
        """Name nothing ahead: the registry would collect once to learn the names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        try:
            found: tuple[Spending, ...] | None = self._spending()
        except (HanseError, OSError):  # told where it is mended: in the guard's log and by `hanse budget`
            found = None
        yield _gauge("hanse_guard_ledger_readable", "1 if policy and ledger could be read.", found is not None)
        names = ["dataset", "budget", "kind"]
        granted = GaugeMetricFamily("hanse_guard_budget_epsilon", "Epsilon up to which it grants.", labels=names)
        charged = GaugeMetricFamily(
            "hanse_guard_budget_epsilon_charged",
            "Epsilon of all that was charged; under a filter a reading and no claim.",
            labels=names,
        )
        left = GaugeMetricFamily("hanse_guard_budget_left_ratio", "Share of it that is left.", labels=names)
        for each in found or ():
            labels = [each.dataset, str(each.budget), each.kind]
            granted.add_metric(labels, each.epsilon)
            charged.add_metric(labels, each.gauge)
            left.add_metric(labels, each.left / each.cap if each.cap else 0.0)
        yield from (granted, charged, left)

    def _spending(self) -> tuple[Spending, ...]:
        policy = read_policy(self._directory.policy)
        if not self._directory.has_ledger():
            return ()
        if self._ledger is None or self._url != policy.ledger.url:
            self._ledger = self._directory.existing_ledger(policy.ledger.url)
            self._url = policy.ledger.url
        return PrivacyBudget(self._ledger, policy.dataset.name).spending()


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))
