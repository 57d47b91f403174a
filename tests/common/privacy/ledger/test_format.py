"""docs/ledger-format.md: its vectors are what the code writes, and a stranger's verifier accepts them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from hypothesis import given
from hypothesis import strategies as st

from common.errors import AuditFailure
from common.privacy.ledger.details import Kind
from common.privacy.ledger.entry import FORMAT
from common.privacy.ledger.rules import verified_entries
from tests.common.privacy.ledger import stranger
from tests.common.privacy.ledger.samples import KEY, OTHER_KEY, STORY, bundled, chained
from tests.common.privacy.ledger.write_vectors import FOLDER, LOST, vectors

KEYS = {"filter.jsonl": KEY.public_hex, "plan.jsonl": OTHER_KEY.public_hex}
DOCUMENT = (FOLDER.parent / "ledger-format.md").read_text(encoding="utf-8")
BUNDLE = bundled(chained(STORY))


@pytest.mark.parametrize("name", KEYS)
def test_the_vectors_are_what_is_written(name: str) -> None:
    """To regenerate: python -m tests.common.privacy.ledger.write_vectors. A change is a new format."""
    assert vectors()[name] == (FOLDER / name).read_bytes()


@pytest.mark.parametrize("name", KEYS)
def test_a_stranger_and_hanse_accept_the_vectors(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    found = verified_entries(data, KEYS[name], [LOST] if name == "plan.jsonl" else [])
    heads = [(head.sequence, head.hash) for head in (entry.head for entry in found.entries)]
    assert stranger.verify(data, KEYS[name], heads) == len(found.entries)
    assert KEYS[name] in DOCUMENT
    assert found.head.hash in DOCUMENT


def test_the_document_names_every_field_kind_and_rule() -> None:
    fields = json.loads(BUNDLE.splitlines()[1])
    for word in [*fields, *Kind, FORMAT, f"{FORMAT} bundle"]:
        assert f"`{word}`" in DOCUMENT, word
    for number in range(1, 10):
        assert re.search(rf"^\| O{number} \|", DOCUMENT, re.M)
        assert re.search(rf"^\| {number} \|", DOCUMENT, re.M)


def test_the_first_entry_in_the_document_is_the_vector_s() -> None:
    first = (FOLDER / "filter.jsonl").read_text(encoding="utf-8").splitlines()[1]
    assert first in DOCUMENT


@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
def test_the_stranger_finds_what_hanse_finds(place: int, change: int) -> None:
    changed = bytearray(BUNDLE)
    changed[place] ^= change
    with pytest.raises(AuditFailure):
        verified_entries(bytes(changed), KEY.public_hex)
    with pytest.raises((AssertionError, ValueError, KeyError, InvalidSignature)):
        stranger.verify(bytes(changed), KEY.public_hex, [])


def test_the_stranger_shares_no_code() -> None:
    source = Path(stranger.__file__).read_text(encoding="utf-8")
    assert not re.search(r"^(from|import) (common|client|server|deploy|tests)\b", source, re.M)
