"""The site that is audited: a virtual one of the study, with its rows, model and claim."""

from __future__ import annotations

from dataclasses import dataclass

from client.preparation import tokenized
from client.trainer import SiteFacts
from common.base_model import resolve_base
from common.device import choose_device
from common.errors import BadInput, NotYet
from common.examples import Example
from common.model import Classifier, build_classifier
from common.privacy.mechanism import SampledGaussian
from common.schedule import planned_steps, schedule
from common.study import Study
from common.study_mechanism import calibrated_noise_multiplier, sample_rate
from common.text import TokenizedTexts, load_tokenizer
from common.virtual_sites import VirtualSite, virtual_sites
from common.wire import Phase, RoundPlan
from deploy.audit.canaries import AuditedTexts
from deploy.audit.pipeline import AuditedTrainer, Watch

__all__ = ["SiteCopy", "chosen_site", "site_copy"]

_RUN = "0" * 32


@dataclass(frozen=True)
class SiteCopy:
    """A copy of one site, for audits alone."""

    study: Study
    """As written, without the pull of FedProx, which is a function of earlier releases."""
    facts: SiteFacts
    texts: TokenizedTexts
    classifier: Classifier
    claimed: SampledGaussian
    """What the study's steps release, by its plan."""
    epsilon: float
    """That the study claims for the site."""
    delta: float

    def trainer(self, audited: AuditedTexts, watch: Watch) -> AuditedTrainer:
        """The site's trainer over other texts."""
        return AuditedTrainer(
            self.facts, self.study, audited, self.classifier, self.claimed.noise_multiplier, watch
        )

    def train(self, trainer: AuditedTrainer) -> None:
        """All rounds of the study at this site alone, from the initial weights; the model is left trained."""
        self.classifier.load(self.classifier.initial)
        for planned in schedule(self.study):
            self.take_round(trainer, planned.phase, planned.steps, planned.number)

    def take_round(self, trainer: AuditedTrainer, phase: Phase, steps: int, number: int = 1) -> None:
        """One round from the weights as they are."""
        weights = self.classifier.weights(phase is Phase.WARM_START)
        trainer.train(RoundPlan(self.study, number, phase, steps, _RUN), weights)


def chosen_site(study: Study, name: str = "") -> tuple[VirtualSite, int]:
    """The virtual site of that name, or the first; with its place.

    Raises:
        BadInput: there is none of that name, or privacy is off.
        NotYet: a kind of study that cannot be audited yet.
    """
    if not study.privacy.enabled:
        raise BadInput("privacy.enabled = false: nothing is claimed that an audit could test")
    if study.privacy.unit == "institution":
        raise NotYet('privacy.unit = "institution": audits of the coordinator\'s noise are not built yet')
    if study.task.kind != "sequence-classification":
        raise NotYet(f'task.kind = "{study.task.kind}": audits are built for sequence-classification')
    sites = virtual_sites(study).sites
    for place, site in enumerate(sites):
        if name in ("", site.name):
            return site, place
    raise BadInput(f"--site {name}: must be one of {', '.join(site.name for site in sites[:10])}")


def site_copy(
    study: Study, virtual: VirtualSite, place: int = 0, examples: tuple[Example, ...] | None = None
) -> SiteCopy:
    """Build the copy; ``examples`` replaces the site's rows."""
    if study.privacy.batch_size > virtual.declared_size:
        raise BadInput(
            f"privacy.batch_size = {study.privacy.batch_size}: more than the {virtual.declared_size} units "
            f"that site {virtual.name} declares"
        )
    federation = study.federation.model_copy(update={"proximal_mu": 0.0})
    study = study.model_copy(update={"federation": federation})
    noise = calibrated_noise_multiplier(study, virtual.name, virtual.declared_size)
    rows = virtual.examples if examples is None else examples
    return SiteCopy(
        study=study,
        facts=SiteFacts(virtual.name, place, virtual.declared_size),
        texts=tokenized(load_tokenizer(resolve_base(study.model.base).path), study, rows),
        classifier=build_classifier(study).place(choose_device(study.training.device)),
        claimed=SampledGaussian(sample_rate(study, virtual.declared_size), noise, planned_steps(study)),
        epsilon=study.epsilon_of(virtual.name),
        delta=study.delta_of(virtual.declared_size),
    )
