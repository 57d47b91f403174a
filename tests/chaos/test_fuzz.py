"""Both doors of a deployment under broken requests; ``make evidence NAME=fuzz`` sends 10,000 to each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.guard_stream import pack
from common.errors import PolicyRefusal
from common.privacy.ledger.details import Kind
from common.privacy.ledger.records import MOST_REFUSALS
from common.study import Study
from common.study_file import parse_study
from common.wire import pack_plan, raise_refusal
from deploy.federation.address import free_port
from deploy.federation.coordinator import coordinator_plans
from deploy.federation.coordinator_directory import CoordinatorDirectory, create_federation
from deploy.federation.node_keys import create_node_key
from deploy.federation.processes import ProcessEvent, Supervisor
from tests.chaos.fuzz import Fuzzed, fuzz_coordinator, fuzz_guard
from tests.client.guards import describe, entries, guard_process, site_folder
from tests.client.samples import plan_of, weights_of
from tests.tiny import tiny_study_text

pytestmark = pytest.mark.slow

REQUESTS = 1_500
MOST_GROWTH_MIB = 48.0
"""Room for what allocators and caches keep."""


def guard_under_fuzz(study: Study, requests: int) -> tuple[Fuzzed, list[Kind]]:
    """A guard of its own process; it must still describe its site at the end."""
    unapproved = study.model_copy(update={"study": study.study.model_copy(update={"name": "unapproved"})})
    changes = {"allow": {"approval": "required"}}
    with site_folder(**changes) as settings, guard_process(settings) as process:
        valid = pack(pack_plan(plan_of(unapproved), weights_of(unapproved, 1)))
        fuzzed = fuzz_guard(settings, process.pid, valid, requests)
        answer = describe(settings, unapproved)
        assert process.poll() is None
        with pytest.raises(PolicyRefusal, match="approved studies only"):
            raise_refusal(answer)
        kinds = [entry.kind for entry in entries(settings)]
    return fuzzed, kinds


@contextmanager
def running_coordinator(folder: Path) -> Iterator[tuple[CoordinatorDirectory, int, bytes]]:
    """A coordinator with one registered site: its folder, the SuperLink's process, and the site's public key."""
    directory = create_federation(folder / "c", "fuzzed", f"127.0.0.1:{free_port()}")
    key = create_node_key(folder / "node.key")
    directory.registry.register("site", key)
    stop, ready, pids = threading.Event(), threading.Event(), []

    def tell(event: ProcessEvent) -> None:
        if event.child == "superlink" and event.kind == "ready":
            pids.append(event.pid)
            ready.set()

    thread = threading.Thread(target=Supervisor(coordinator_plans(directory)[:1], tell).run, args=[stop])
    thread.start()
    try:
        assert ready.wait(120)
        yield directory, pids[0], key.pem
        assert len(pids) == 1, "the SuperLink was started again"
    finally:
        stop.set()
        thread.join()


def test_a_guard_goes_on_under_broken_streams(tiny_base: Path) -> None:
    study = parse_study(tiny_study_text(tiny_base, tiny_base), "tiny")
    fuzzed, kinds = guard_under_fuzz(study, REQUESTS)
    assert fuzzed.hung == 0, fuzzed
    assert fuzzed.memory_after_mib - fuzzed.memory_before_mib < MOST_GROWTH_MIB, fuzzed
    assert set(kinds) <= {Kind.OPEN, Kind.POLICY, Kind.REFUSE}
    assert kinds.count(Kind.REFUSE) <= 2 * MOST_REFUSALS
    assert {"INVALID_ARGUMENT", "UNIMPLEMENTED", "answered"} <= fuzzed.answers.keys(), fuzzed


def test_a_coordinator_goes_on_under_broken_requests(tmp_path: Path) -> None:
    with running_coordinator(tmp_path) as (directory, pid, key):
        fuzzed = fuzz_coordinator(directory, pid, key, REQUESTS)
    assert fuzzed.hung == 0, fuzzed
    assert fuzzed.memory_after_mib - fuzzed.memory_before_mib < MOST_GROWTH_MIB, fuzzed
    refused = {status for status in fuzzed.answers if status.startswith("4")}
    assert refused
    assert {"200"} | refused == {status for status in fuzzed.answers if not status.startswith("5")}, fuzzed
