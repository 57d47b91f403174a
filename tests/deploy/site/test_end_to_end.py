"""A coordinator and three sites as their operators run them: commands, TLS, keys, and data of their own."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from client.site_directory import SiteDirectory
from common.privacy.ledger.details import Refused, Reserved
from common.privacy.ledger.entry import LedgerEntry
from common.study import Study
from common.study_file import parse_study, write_study
from common.virtual_sites import virtual_sites
from deploy.federation.control import connect
from deploy.federation.coordinator_directory import open_federation
from deploy.local_federation import LocalFederation, LocalSite
from deploy.simulation import simulate
from tests.deploy.site.hostile_app import hostile_bundle
from tests.tiny import tiny_policy_text, tiny_study_text, write_tiny_base, write_tiny_data

pytestmark = pytest.mark.slow

NAMES = ("site-1", "site-2", "site-3")
"""As a simulation of three sites calls them: a site's draws without privacy follow from its name."""
SECONDS = 400.0


def _study(folder: Path, name: str, **sections: str) -> Study:
    base, data = folder / "base", folder / "public.csv"
    return parse_study(
        tiny_study_text(base, data, **sections),
        where=name,
        overrides=(
            f"study.name={name}",
            "data.partition=iid",
            f"data.sites={len(NAMES)}",
            "privacy.epsilon=12.0",
        ),
    )


class Federation:
    """Three sites over the parts of one public file, so that a simulation can be held beside them."""

    def __init__(self, folder: Path, told: list[str]) -> None:
        self.folder = folder
        write_tiny_base(folder / "base")
        write_tiny_data(folder / "public.csv", rows=300)
        self.local = LocalFederation(folder / "federation", told.append)
        first = self.study("first")
        sites = []
        for name, virtual in zip(NAMES, virtual_sites(self.plan("first")).sites, strict=True):
            data, policy = folder / f"{name}.csv", folder / f"{name}.toml"
            rows = [f"{each.text},{('negative', 'positive')[each.label]}\n" for each in virtual.examples]
            data.write_text("text,label\n" + "".join(rows))
            budget = 'epsilon = 40.0\nkind = "filter"\norder = 4\nepsilon_per_study = 12.0'
            policy.write_text(
                tiny_policy_text(name, virtual.declared_size, budget=budget, dataset="public = true")
            )
            policy.chmod(0o600)
            sites.append(LocalSite(name, data, policy))
        self.local.create("north", first, sites)

    def plan(self, name: str, **sections: str) -> Study:
        return _study(self.folder, name, **sections)

    def study(self, name: str, **sections: str) -> Path:
        path = self.folder / f"{name}.toml"
        write_study(self.plan(name, **sections), path)
        return path

    def run(self, name: str, approved: bool = True, **sections: str) -> dict[str, Any]:
        """Submit a study in its own name and wait for its end."""
        path = self.study(name, **sections)
        if approved:
            self.local.approve(path)
        return self.local.finished_run(name, SECONDS, "--study", str(path))

    def result(self, name: str) -> Path:
        return self.local.coordinator / "runs" / name

    def entries(self, site: str) -> list[LedgerEntry]:
        return list(SiteDirectory(self.local.home(site)).existing_ledger().entries())

    def receipts(self, site: str) -> list[dict[str, Any]]:
        lines = SiteDirectory(self.local.home(site)).receipts.read_text().splitlines()
        return [json.loads(json.loads(line)["body"]) for line in lines]


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    folder = Path(tempfile.mkdtemp(prefix="hanse-"))  # short, for the sockets
    try:
        running = Federation(folder, [])
        with running.local:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_three_sites_complete_a_private_study_and_an_auditor_confirms_it(federation: Federation) -> None:
    view = federation.run("first")
    assert view["state"] == "completed", view["message"]
    result = json.loads((federation.result("first") / "result.json").read_text())
    assert [site["name"] for site in result["sites"]] == sorted(NAMES)
    assert result["private"]
    assert all(0 < site["epsilon"] <= 12.0 for site in result["sites"])
    assert (federation.result("first") / "model" / "model.safetensors").exists()

    key = federation.local.coordinator / "witness.key"
    bundles, keys = [], []
    for site in NAMES:
        reserved = [entry for entry in federation.entries(site) if isinstance(entry.details, Reserved)]
        assert [entry.round for entry in reserved] == [1, 2, 3]
        witness = open_federation(key.parent).witness_key().public_hex
        assert {entry.details.coordinator for entry in reserved} == {witness}  # type: ignore[union-attr]
        # P8: what the coordinator has seen after each round came back signed; the last is the ledger's own head.
        head = SiteDirectory(federation.local.home(site)).existing_ledger().head()
        assert federation.receipts(site)[-1]["head"] == head.model_dump()
        bundle = federation.folder / f"{site}.ledger"
        exported = federation.local.hanse("ledger", "export", str(bundle), "--site",
                                          str(federation.local.home(site)))  # fmt: skip
        bundles.append(f"{site}={bundle}")
        keys += ["--key", f"{site}={exported['public_key']}"]
    found = federation.local.hanse("audit", "ledger", *bundles, *keys, "--run", str(federation.result("first")))
    assert {check["verdict"] for check in found["checks"]} == {"passed"}, found["checks"]


def test_with_privacy_off_the_result_equals_the_simulation_of_the_same_plan(federation: Federation) -> None:
    view = federation.run("plain", privacy="enabled = false")
    assert view["state"] == "completed", view["message"]
    simulated = federation.folder / "simulated"
    plan = federation.plan("plain", privacy="enabled = false")
    assert tuple(site.name for site in virtual_sites(plan).sites) == NAMES
    simulate(plan, simulated)
    ours = load_file(federation.result("plain") / "model" / "model.safetensors")
    theirs = load_file(simulated / "model" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=2e-6, err_msg=name)
    first = load_file(federation.folder / "base" / "model.safetensors")
    assert any(not np.array_equal(first[name], ours[f"bert.{name}"]) for name in first if f"bert.{name}" in ours)


def test_p18_a_study_that_nobody_approved_is_refused_and_both_sides_say_why(federation: Federation) -> None:
    before = len(federation.entries("site-1"))
    view = federation.run("unasked", approved=False)
    assert view["state"] == "failed"
    assert "approved studies only" in view["message"]
    refusals = [entry.details for entry in federation.entries("site-1")[before:]]
    assert [detail.code for detail in refusals if isinstance(detail, Refused)] == ["not-approved"]


@pytest.mark.parametrize(
    ("name", "sections", "code", "told"),
    [
        ("dearer", {"site": ""}, "epsilon-per-study", "privacy.epsilon"),
        ("other-part", {}, "trainable-not-allowed", "trainable"),
    ],
)
def test_more_than_the_policy_allows_is_refused_and_both_sides_say_why(
    federation: Federation, name: str, sections: dict[str, str], code: str, told: str
) -> None:
    plan = federation.plan(name)
    if code == "epsilon-per-study":
        changed = plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"epsilon": 13.0})})
    else:
        changed = plan.model_copy(update={"model": plan.model.model_copy(update={"trainable": "full"})})
    path = federation.folder / f"{name}.toml"
    write_study(changed, path)
    federation.local.approve(path)  # the policy says no all the same
    before = len(federation.entries("site-1"))
    view = federation.local.finished_run(name, SECONDS, "--study", str(path))
    assert view["state"] == "failed"
    assert told in view["message"]
    refusals = [entry.details for entry in federation.entries("site-1")[before:]]
    assert code in [detail.code for detail in refusals if isinstance(detail, Refused)]


def test_hostile_code_in_a_bundle_finds_no_data_to_read(federation: Federation) -> None:
    directory = open_federation(federation.local.coordinator)
    run = directory.runs / "hostile"
    run.mkdir(mode=0o700)
    write_study(federation.plan("hostile"), run / "study.toml")
    data = [str(federation.folder / f"{name}.csv") for name in NAMES]
    (run / "paths.json").write_text(json.dumps([*data, str(federation.folder)]))
    with connect(directory) as control:
        control.submit(
            hostile_bundle(federation.folder / "hostile"), federation.plan("hostile"), run, resume=False
        )
        _wait_for(run / "result.json")
    found = json.loads((run / "result.json").read_text())
    assert len(found) == len(NAMES)
    for answer in found.values():
        assert answer["tried"] >= 10
        assert answer["paths"] == []


def test_p08_a_restored_backup_cannot_spend_twice(federation: Federation) -> None:
    """The site's folder as it was before its last study: the coordinator has seen more of its ledger."""
    home = federation.local.home("site-3")
    federation.local.stop("site-3")
    backup = (home / "ledger.db").read_bytes()
    kept = _reservations(federation)
    federation.local.start_site("site-3")
    federation.local.await_connected("site-3")
    assert federation.run("second")["state"] == "completed"

    federation.local.stop("site-3")
    (home / "ledger.db").write_bytes(backup)
    federation.local.start_site("site-3")
    federation.local.await_connected("site-3")
    view = federation.run("third")
    assert view["state"] == "completed", "two sites are enough"
    rounds = [json.loads(line) for line in (federation.result("third") / "rounds.jsonl").read_text().splitlines()]
    for record in rounds:
        by_site = {site["site"]: site for site in record["sites"]}
        assert by_site["site-1"]["replied"]
        assert not by_site["site-3"]["replied"]
        assert "nothing is reserved: missing entries" in by_site["site-3"]["reason"]
    assert _reservations(federation) == kept

    # The officer enters what was lost again, from the coordinator's record of the run.
    seen = (federation.local.coordinator / "witness.jsonl").read_text().splitlines()
    heads = [json.loads(line)["heads"]["site-3"] for line in seen if "site-3" in line]
    lost = f"{heads[-1]['sequence']}:{heads[-1]['hash']}"
    spent = _spent(federation)
    entered = federation.local.hanse("ledger", "reenter", str(federation.result("second")), "--head", lost,
                                     "--site", str(home))  # fmt: skip
    assert len(entered["entered"]) == 3
    assert _spent(federation) > spent


def _reservations(federation: Federation) -> int:
    return sum(isinstance(entry.details, Reserved) for entry in federation.entries("site-3"))


def _spent(federation: Federation) -> float:
    found = federation.local.hanse("budget", "--site", str(federation.local.home("site-3")))
    return float(found["datasets"][0]["budgets"][0]["spent"])


def _wait_for(path: Path) -> None:
    import time

    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.5)
