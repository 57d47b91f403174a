"""The fitted curve meets runs that lie on it, rises with epsilon, and refuses what cannot be fitted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import BadInput
from server.economics.accuracy_curve import PastRun, fitted_curve, past_run
from server.economics.market_files import ValueSection
from server.economics.weighting import gap_closed, precision

VALUE = ValueSection(spread=1.0, noise_constant=20_000.0, public_precision=500.0)


def run_at(epsilon: float) -> PastRun:
    """A run whose accuracy lies on the curve from 0.5 to 0.9."""
    share = gap_closed(2 * precision(1000, epsilon, 1.0, 20_000.0), 500.0)
    return PastRun(((1000, epsilon), (1000, epsilon)), 0.5 + 0.4 * share)


def test_runs_on_a_curve_are_met() -> None:
    curve = fitted_curve([run_at(epsilon) for epsilon in (0.5, 2.0, 8.0)], VALUE)
    assert (curve.without, curve.most, curve.error) == pytest.approx((0.5, 0.9, 0.0), abs=1e-9)
    assert curve.at([(1000, 4.0), (1000, 4.0)]) == pytest.approx(run_at(4.0).accuracy)
    path = [curve.at([(1000, epsilon)]) for epsilon in (0.5, 1.0, 2.0, 4.0, 8.0)]
    assert path == sorted(path)


def test_too_few_or_equal_runs_are_refused() -> None:
    for runs in ([run_at(1.0), run_at(2.0)], [run_at(1.0)] * 3):
        with pytest.raises(BadInput, match="three runs"):
            fitted_curve(runs, VALUE)


def test_a_run_directory_is_read_by_its_validation_score(tmp_path: Path) -> None:
    """P21: the test set's score is not what is fitted."""
    result = {
        "sites": [{"declared_size": 1000, "epsilon": 2.0}],
        "validation": {"overall": {"accuracy": 0.7}},
        "test": {"overall": {"accuracy": 0.1}},
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert past_run(tmp_path) == PastRun(((1000, 2.0),), 0.7)
    result["sites"] = [{"declared_size": 1000, "epsilon": None}]
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(BadInput, match="no result of a private run"):
        past_run(tmp_path)
