"""The reply of a site's newest round, on disk before it is sent (PRIVACY P9).

One is kept for each study until a plan for a later round arrives; of each run of the study it is remembered
which round came last, so that no earlier one is answered anew. It is one safetensors file for each run: the
weights as they leave, and in the file's header what was asked and what else the reply says. A file is there
whole or not at all, for its owner alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.errors import HanseError, PolicyRefusal, RunFailed
from common.files import atomically
from common.privacy.ledger.details import Head
from common.privacy.ledger.keys import check_private, private_folder
from common.privacy.mechanism import from_json, to_json
from common.weights import Weights
from common.wire import Update

__all__ = ["Asked", "ReplyStore"]


@dataclass(frozen=True)
class Asked:
    """What a reply answers."""

    study: str
    """The study's digest."""
    run: str
    round: int
    plan: str
    """Digest of plan and global weights (``client.consent.plan_digest``)."""


_State = Literal["begun", "answered", "evicted"]


@dataclass(frozen=True)
class _Record:
    """What is remembered of a run: its newest round, and the reply while it is kept."""

    asked: Asked
    state: _State
    update: Update | None = None


class ReplyStore:
    """The replies in one folder."""

    def __init__(self, folder: Path) -> None:
        """The folder is made (0700) when the first reply is kept."""
        self._folder = folder

    def answer(self, asked: Asked) -> Update | None:
        """The stored reply to just this; None where nothing stored speaks against training.

        Raises:
            PolicyRefusal: the round was answered for another plan, its reply is no longer kept, or a later round
                of the run was asked for.
            RunFailed: the stored file cannot be read: retraining might answer a round twice.
        """
        found = self._read(self._file(asked))
        if found is None or found.asked.round < asked.round:
            return None
        if found.asked.round > asked.round:
            raise PolicyRefusal(f"round {asked.round}: is over, round {found.asked.round} was asked for")
        if found.state == "evicted":
            raise PolicyRefusal(f"round {asked.round}: was answered, and the reply is no longer kept")
        if found.state == "answered" and found.asked != asked:
            raise PolicyRefusal(f"round {asked.round}: was answered for another plan; it is not trained again")
        return found.update

    def begin(self, asked: Asked) -> None:
        """Note that a round was asked for, and drop the study's reply to an earlier round or another run."""
        for path in sorted(self._folder.glob(f"{asked.study}-*.safetensors")):
            found = self._read(path)
            if found is None:
                continue
            if found.asked.run != asked.run and found.state == "answered":
                self._write(_Record(found.asked, "evicted"))
            elif found.asked.run == asked.run and found.asked.round < asked.round:
                self._write(_Record(asked, "begun"))

    def keep(self, asked: Asked, update: Update) -> None:
        """Store a reply in place of the run's older one; on disk when this returns."""
        self._write(_Record(asked, "answered", update))

    def _write(self, record: _Record) -> None:
        private_folder(self._folder)
        said: dict[str, object] = {"asked": vars(record.asked), "state": record.state}
        tensors: Weights = {}
        if (update := record.update) is not None:
            head = None if update.head is None else update.head.model_dump()
            said |= {"site": update.site, "mechanism": to_json(update.mechanism), "head": head}
            said["names"] = list(update.weights)  # in their order, which the file does not keep
            tensors = {name: np.ascontiguousarray(value) for name, value in update.weights.items()}
        content = save(tensors, metadata={"reply": json.dumps(said, sort_keys=True)})
        with atomically(self._file(record.asked)) as temporary:  # a temporary file is made 0600
            temporary.write_bytes(content)

    def _read(self, path: Path) -> _Record | None:
        if not path.exists():
            return None
        check_private(path)
        try:
            with safe_open(path, framework="numpy") as stored:
                said = json.loads(stored.metadata()["reply"])
                weights: Weights = {name: stored.get_tensor(name) for name in said.get("names", ())}
            asked = Asked(**said["asked"])
            if said["state"] != "answered":
                return _Record(asked, said["state"])
            head = None if said["head"] is None else Head(**said["head"])
            update = Update(str(said["site"]), asked.round, weights, from_json(said["mechanism"]), head)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, HanseError) as error:
            raise RunFailed(
                f"replies/{path.name}: cannot be read ({type(error).__name__}); the round is not trained again: "
                "restore the file, or remove it to give the round up"
            ) from error
        return _Record(asked, "answered", update)

    def _file(self, asked: Asked) -> Path:
        return self._folder / f"{asked.study}-{asked.run}.safetensors"
