"""Writes the test vectors of docs/ledger-format.md: ``python -m tests.common.privacy.ledger.write_vectors``.

Keys, time and random bytes are fixed, for vectors alone; a real ledger takes each from the operating system.
"""

from __future__ import annotations

from pathlib import Path

from common.privacy.ledger.commitment import CommitmentKey
from common.privacy.ledger.details import GENESIS, Closed, Head, Lowering, Policy, Refused
from common.privacy.ledger.entry import Draft, Stamp, seal_entry
from common.privacy.mechanism import Composition, Gaussian, Laplace, SampledGaussian
from tests.common.privacy.ledger.samples import (
    DATA,
    KEY,
    NOON,
    OTHER_KEY,
    OTHER_STUDY,
    PLAN,
    PLANNED,
    STORY,
    STUDY,
    bundled,
    fixed_entropy,
    opened,
    reserved,
    settled,
)

__all__ = ["FOLDER", "LOST", "SEED", "vectors"]

FOLDER = Path(__file__).resolve().parents[4] / "docs" / "ledger-vectors"
SEED = bytes(range(32))
LOST = Head(sequence=9, hash="e" * 64)
_SEAL = CommitmentKey(SEED).seal([b"row 1", b"row 2"])
_MIXED = Composition((SampledGaussian(0.05, 0.9, 10), Gaussian(1e6, 1), Laplace(0.000001, 2)))
_FILTER = (
    *STORY[:2],
    settled(1, 2, SampledGaussian(0.02, 1.0, 25), refund="public-fact"),
    *STORY[3:],
    Draft(
        dataset=DATA,
        study=OTHER_STUDY,
        run="r",
        round=1,
        mechanism=_MIXED,
        details=Refused(code="budget-exceeded"),
    ),
    Draft(dataset="Größe €", details=Policy(policy=PLAN, lower=None), note='quoted "\\" and\ttab, 😀'),
)
_TWO = SampledGaussian(0.02, 1.0, 100)
_PLAN = (
    opened(PLANNED),
    Draft(dataset=DATA, details=Policy(policy=None, lower=Lowering(budget=1, epsilon=7.5))),
    Draft(dataset=DATA, study=STUDY, run="r", mechanism=_TWO, details=reserved(None).details),
    reserved(1),
    settled(1, 4, outcome="deadline"),
    Draft(dataset=DATA, details=Closed(why="written-off", lost=LOST)),
)


def vectors() -> dict[str, bytes]:
    """Bundles by the names of their files."""
    found = {}
    for name, drafts, key in (("filter", _FILTER, KEY), ("plan", _PLAN, OTHER_KEY)):
        head, entries, entropy = GENESIS, [], fixed_entropy(1)
        for draft in drafts:
            random = entropy(16)
            entry = seal_entry(draft, head, Stamp(NOON, random, _SEAL.commitment(random)), key)
            entries.append(entry)
            head = entry.head
        found[f"{name}.jsonl"] = bundled(entries, key.public_hex)
    return found


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, data in vectors().items():
        (FOLDER / file).write_bytes(data)
