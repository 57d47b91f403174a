"""Asks some of the sites in a round: by lot, or by what their updates did for the public validation score.

Leaving a site out saves its epsilon only where its budget is a filter, which is charged round by round; a plan was
charged as a whole (PRIVACY P21). So ``bandit``, whose point is to save, wants filters everywhere. Noise is
calibrated as if every site were asked in every round, whatever is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace

from common.errors import BadInput
from common.files import append_line, write_text
from common.schedule import PlannedRound
from common.study import Study
from common.wire import SiteDescription
from server.checkpoint import Checkpoint
from server.economics.reconstruction import coalition_model
from server.economics.site_bandit import AskedRound, best_sites, drawn_sites, round_rewards
from server.kept_updates import read_kept_updates
from server.rounds import Coordinator, score_weights
from server.run_directory import RunDirectory

__all__ = ["Selection", "check_filters", "open_selection"]


class Selection:
    """Who was asked so far, and who is next; its file is ``selection.jsonl`` of the run."""

    def __init__(self, study: Study, directory: RunDirectory, history: Iterable[AskedRound]) -> None:
        self._study = study
        self._directory = directory
        self._history = {each.round: each for each in history}

    def sites_of(self, coordinator: Coordinator, round_number: int) -> Coordinator:
        """The coordinator as a round sees it: only the sites that it asks, and in which rounds each was asked.

        The choice is on disk when this returns: an interrupted round counts for those that it asked.
        """
        if self._study.federation.selection == "all":
            return coordinator
        if round_number not in self._history:
            self._keep(AskedRound(round_number, self._choice(coordinator, round_number)))
        asked = self._history[round_number].asked
        chosen = {node: site for node, site in coordinator.sites.items() if site.name in asked}
        return replace(coordinator, sites=chosen, asked=self.rounds_of(coordinator.sites))

    def asked(self, sites: Mapping[int, SiteDescription]) -> dict[str, tuple[int, ...]] | None:
        """The rounds that asked each site; None where every round asks everybody."""
        return None if self._study.federation.selection == "all" else self.rounds_of(sites)

    def rounds_of(self, sites: Mapping[int, SiteDescription]) -> dict[str, tuple[int, ...]]:
        """The rounds that asked each site, ascending."""
        return {
            site.name: tuple(number for number, each in sorted(self._history.items()) if site.name in each.asked)
            for site in sites.values()
        }

    def learn(self, coordinator: Coordinator, planned: PlannedRound, after: Checkpoint) -> None:
        """Measure what each update of a finished round was good for, where sites are chosen by that."""
        if self._study.federation.selection != "bandit":
            return
        found = read_kept_updates(self._directory.updates, planned.number, self._study)
        whole = -score_weights(coordinator, after.weights, planned.phase).overall.loss

        def utility(without: str) -> float:
            others = frozenset(found.kept.updates) - {without}
            weights = after.weights | coalition_model(found.kept, others, found.step(self._study))
            return -score_weights(coordinator, weights, planned.phase).overall.loss

        rewards = round_rewards(whole, {site: utility(site) for site in found.kept.updates})
        self._keep(replace(self._history[planned.number], rewards=rewards))

    def _choice(self, coordinator: Coordinator, round_number: int) -> tuple[str, ...]:
        federation, seed = self._study.federation, self._study.study.seed
        sites = {site.name: site.epsilon for site in coordinator.sites.values()}
        if federation.selection == "uniform":
            return drawn_sites(list(sites), federation.sites_per_round, seed, round_number)
        before = [each for number, each in sorted(self._history.items()) if number < round_number]
        return best_sites(sites, federation.sites_per_round, seed, before)

    def _keep(self, found: AskedRound) -> None:
        self._history[found.round] = found
        append_line(self._directory.selection, asdict(found))


def open_selection(study: Study, directory: RunDirectory, last_round: int) -> Selection:
    """The selection of a run that has finished ``last_round`` rounds; what was chosen and learnt of them stays.

    The choice of a later round, one that was begun and cut off, stays too; what it taught does not.

    Raises:
        BadInput: ``selection.jsonl`` is damaged.
    """
    history: dict[int, AskedRound] = {}
    if study.federation.selection != "all" and directory.selection.exists():
        lines = directory.selection.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                tree = json.loads(line)
                found = AskedRound(int(tree["round"]), tuple(tree["asked"]), dict(tree["rewards"]))
            except (ValueError, KeyError, TypeError) as error:
                if number < len(lines):
                    raise BadInput(f"{directory.selection}: line {number} is no round's selection") from error
                continue  # cut short by a crash: nothing was asked after it
            history[found.round] = found if found.round <= last_round else replace(found, rewards={})
        text = "".join(json.dumps(asdict(each), sort_keys=True) + "\n" for _, each in sorted(history.items()))
        write_text(directory.selection, text)
    return Selection(study, directory, history.values())


def check_filters(study: Study, sites: Iterable[SiteDescription]) -> None:
    """Refuse ``selection = "bandit"`` where a site's budget is a plan (PRIVACY P21).

    Raises:
        BadInput: names the sites.
    """
    if study.federation.selection != "bandit" or not study.privacy.noised_at_sites:
        return
    plans = sorted(site.name for site in sites if not site.order)
    if plans:
        raise BadInput(
            f'federation.selection = "bandit": the budgets of {", ".join(plans[:5])} are plans, which charge for '
            'rounds that do not ask them too; their officers open filters, or use selection = "uniform"'
        )
