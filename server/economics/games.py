"""A cooperative game over sites: what each coalition's model is worth, evaluated once.

An evaluation scores a model and may take seconds or minutes, so values are kept, in memory and if asked in a
file from which a later run goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from common.errors import BadInput, RunFailed
from common.files import write_json

__all__ = ["Coalition", "Game", "Utility", "subsets"]

Coalition: TypeAlias = frozenset[str]
"""Names of the sites that act together."""

Utility: TypeAlias = Callable[[Coalition], float]
"""Worth of a coalition's model. Of nobody: the public base model's, which need not be 0."""

_SAVE_EVERY = 32


class Game:
    """Sites and the worth of every coalition of them.

    The same coalition is never evaluated twice, also across runs that share a ``store``. What is kept is always
    the true worth: an estimator that cuts a walk short must not write what it assumed (ECONOMICS, section 1).
    """

    def __init__(
        self,
        sites: Iterable[str],
        utility: Utility,
        *,
        identity: str = "",
        store: Path | None = None,
        executor: Executor | None = None,
        evaluated: Callable[[], None] | None = None,
    ) -> None:
        """Describe a game; nothing is evaluated yet.

        Args:
            sites: distinct names; the game orders them.
            utility: called once for each coalition that is asked for; for a pool of processes, picklable.
            identity: what the utility depends on (study digest, round, evaluation set); a store made for
                another identity is refused.
            store: a JSON file of known values, read now if it exists and written as values arrive.
            executor: evaluates several coalitions at a time; results do not depend on it.
            evaluated: called after each evaluation, for whoever shows progress.

        Raises:
            BadInput: a name stands twice, or the store is another game's or unreadable.
        """
        names = list(sites)
        self.sites: tuple[str, ...] = tuple(sorted(set(names)))
        """Names in ascending order."""
        if len(names) != len(self.sites):
            raise BadInput(f"sites = {sorted(names)}: a name stands twice; names must be distinct")
        self.everybody: Coalition = frozenset(self.sites)
        self.identity = identity
        self.evaluations = 0
        """How often the utility was called, by this object."""
        self._utility = utility
        self._store = store
        self._executor = executor
        self._evaluated = evaluated
        self._known: dict[Coalition, float] = {}
        if store is not None and store.exists():
            self._known = _read(store, self.sites, identity)

    def __call__(self, coalition: Iterable[str]) -> float:
        """Worth of one coalition; see :meth:`values`."""
        return self.values([frozenset(coalition)])[0]

    def values(self, coalitions: Sequence[Coalition]) -> list[float]:
        """Worth of each coalition, in their order; unknown ones are evaluated, each once.

        Raises:
            BadInput: a coalition has a member that is no site of the game.
            RunFailed: the utility returned something that is no finite number.
        """
        missing = self.unknown(coalitions)
        if missing:
            with self._saved():
                self._evaluate(missing)
        return [self._known[coalition] for coalition in coalitions]

    def unknown(self, coalitions: Iterable[Coalition]) -> list[Coalition]:
        """The distinct coalitions among these that were not evaluated yet, in their order."""
        missing: dict[Coalition, None] = {}
        for coalition in coalitions:
            if not coalition <= self.everybody:
                strangers = sorted(coalition - self.everybody)
                raise BadInput(f"coalition: {strangers} are not sites of {list(self.sites)}")
            if coalition not in self._known:
                missing[coalition] = None
        return list(missing)

    def save(self, path: Path) -> None:
        """Write the known values as JSON, keyed by the JSON list of a coalition's sorted names."""
        entries = {json.dumps(sorted(members)): value for members, value in self._known.items()}
        write_json(path, {"identity": self.identity, "sites": list(self.sites), "values": entries})

    def _evaluate(self, missing: list[Coalition]) -> None:
        results = self._executor.map(self._utility, missing) if self._executor else map(self._utility, missing)
        for number, (coalition, value) in enumerate(zip(missing, results, strict=True), start=1):
            if not math.isfinite(value):
                raise RunFailed(f"utility of {sorted(coalition)} = {value}: must be a finite number")
            self._known[coalition] = float(value)
            self.evaluations += 1
            if self._evaluated is not None:
                self._evaluated()
            if self._store is not None and number % _SAVE_EVERY == 0:
                self.save(self._store)

    @contextmanager
    def _saved(self) -> Iterator[None]:
        """What was evaluated is on disk afterwards, also when an evaluation failed."""
        try:
            yield
        finally:
            if self._store is not None:
                self.save(self._store)


def subsets(members: Sequence[str]) -> list[Coalition]:
    """All subsets; that at index ``k`` holds member ``i`` iff bit ``i`` of ``k`` is set."""
    found: list[Coalition] = [frozenset()]
    for member in members:
        found += [subset | {member} for subset in found]
    return found


def _read(path: Path, sites: tuple[str, ...], identity: str) -> dict[Coalition, float]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        found = {frozenset(json.loads(key)): float(value) for key, value in kept["values"].items()}
        of_sites, of_identity = tuple(kept["sites"]), kept["identity"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: no values of a game can be read from it; delete it to start anew") from error
    if (of_sites, of_identity) != (sites, identity):
        raise BadInput(
            f"{path}: values of another game ({of_identity!r}, sites {list(of_sites)}); this one is "
            f"{identity!r}, sites {list(sites)}; give another file"
        )
    if not all(coalition <= set(sites) and math.isfinite(value) for coalition, value in found.items()):
        raise BadInput(f"{path}: holds a coalition or a value that no game of its sites has; delete it")
    return found
