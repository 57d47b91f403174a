"""The guard's metrics: what they count, that they follow the ledger, and where alone they are served."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from client.guard_metrics import GuardMetrics, metrics_socket_of
from client.site_directory import SiteDirectory
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from common.privacy.mechanism import SampledGaussian
from tests.client.guards import write_policy

STUDY = "a1" * 32


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> SiteDirectory:
    made = SiteDirectory(tmp_path_factory.mktemp("g") / "site")
    made.create()
    write_policy(made, budget={"epsilon": 4.0, "kind": "filter", "order": 16})
    return made


def scraped(directory: SiteDirectory) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(metrics_socket_of(directory)))
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode().split("\r\n\r\n", 1)[1]


def key(name: str, *labels: str) -> tuple[str, ...]:
    """A sample's name and the values of its labels, in no order of their own."""
    return (name, *sorted(labels))


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    return {
        key(sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def budget(directory: SiteDirectory) -> PrivacyBudget:
    from client.policy_file import read_policy

    policy = read_policy(directory.policy)
    opened = PrivacyBudget(directory.ledger(), policy.dataset.name)
    opened.ensure_open(policy.terms)
    return opened


def test_requests_are_counted_by_kind_and_outcome(directory: SiteDirectory) -> None:
    metrics = GuardMetrics(directory)
    with metrics.request("train") as request:
        request.outcome = "answered"
    with pytest.raises(ValueError), metrics.request("train"):
        raise ValueError
    with metrics.request("describe") as request:
        request.outcome = "refused"
    with metrics.serving():
        found = figures(scraped(directory))
    assert found[key("hanse_guard_requests_total", "train", "answered")] == 1
    assert found[key("hanse_guard_requests_total", "train", "failed")] == 1
    assert found[key("hanse_guard_requests_total", "describe", "refused")] == 1
    assert found["hanse_guard_request_seconds_count", "train"] == 2
    assert found["hanse_guard_requests_running",] == 0


def test_the_budgets_figures_follow_the_ledger(directory: SiteDirectory) -> None:
    """At each scrape anew, whoever wrote to the ledger."""
    metrics = GuardMetrics(directory)
    with metrics.serving():
        before = figures(scraped(directory))
        assert before["hanse_guard_ledger_readable",] == 1
        assert not any(name[0] == "hanse_guard_budget_epsilon" for name in before)
        opened = budget(directory)
        labels = (opened.dataset, "1", "filter")
        assert figures(scraped(directory))[key("hanse_guard_budget_left_ratio", *labels)] == 1
        use = StudyUse(STUDY, "b2" * 16, opened.spending()[0].delta)
        mechanism = SampledGaussian(sample_rate=0.05, noise_multiplier=2.0, steps=4)
        opened.admit_study(use, mechanism)
        opened.reserve(use, RoundRequest(1, "c3" * 32, mechanism))
        found = figures(scraped(directory))
    (state,) = opened.spending()
    assert found[key("hanse_guard_budget_epsilon", *labels)] == 4
    assert found[key("hanse_guard_budget_epsilon_charged", *labels)] == state.gauge > 0
    assert found[key("hanse_guard_budget_left_ratio", *labels)] == state.left / state.cap < 1


def test_a_ledger_that_cannot_be_read_is_a_figure_and_no_failure(directory: SiteDirectory) -> None:
    metrics = GuardMetrics(directory)
    directory.policy.write_text("broken = ", encoding="utf-8")
    with metrics.serving():
        found = figures(scraped(directory))
    assert found["hanse_guard_ledger_readable",] == 0
    assert found["hanse_guard_requests_running",] == 0


def test_p17_metrics_are_on_a_socket_in_the_sites_own_folder_alone(
    directory: SiteDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One socket is bound, a Unix one, 0600, in a folder that is 0700."""
    bound: list[tuple[int, object]] = []
    bind = socket.socket.bind

    def noting(self: socket.socket, address: object) -> None:
        bound.append((self.family, address))
        bind(self, address)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(socket.socket, "bind", noting)
    place = metrics_socket_of(directory)
    with GuardMetrics(directory).serving():
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert bound == [(socket.AF_UNIX, str(place))]
    assert place.parent == directory.path


def test_p15_metrics_do_not_depend_on_the_data(directory: SiteDirectory, tmp_path: Path) -> None:
    """Only names and labels fixed here and by policy and ledger: no text, size, loss or length has a place."""
    metrics = GuardMetrics(directory)
    with metrics.request("train") as request:
        request.outcome = "answered"
    opened = budget(directory)
    with metrics.serving():
        names = {name[0] for name in figures(scraped(directory))}
        labels = {value for name in figures(scraped(directory)) for value in name[1:]}
    assert {name.removesuffix("_created") for name in names} <= {
        "hanse_guard_requests_total", "hanse_guard_requests", "hanse_guard_requests_running",
        "hanse_guard_request_seconds", "hanse_guard_request_seconds_bucket", "hanse_guard_request_seconds_count",
        "hanse_guard_request_seconds_sum", "hanse_guard_ledger_readable", "hanse_guard_budget_epsilon",
        "hanse_guard_budget_epsilon_charged", "hanse_guard_budget_left_ratio",
    }  # fmt: skip
    assert {each for each in labels if not each.replace(".", "").isdigit()} <= {
        "train", "answered", opened.dataset, "filter", "+Inf",
    }  # fmt: skip
