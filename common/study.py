"""The study plan: one typed, validated TOML file that drives a simulation, a deployment and an audit.

Bytes become a :class:`Study` only by passing every check here; inside Hanse nobody re-checks a value.
A key that is unknown, of the wrong type, or impossible beside another one is refused with its path, its
value and what is allowed. A legal value that this version cannot carry out is refused as *not yet*.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

__all__ = [
    "DataSection",
    "FederationSection",
    "ModelSection",
    "PrivacySection",
    "SimulationSection",
    "SiteSection",
    "Study",
    "StudySection",
    "TaskKind",
    "TaskSection",
    "TrainingSection",
]

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(s|m|h)$")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}

TaskKind: TypeAlias = Literal["sequence-classification", "token-classification", "masked-language-modeling"]
"""What is learned: a label for each text, a tag for each word, or the words that a mask hides."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StudySection(_Section):
    """Names the study and seeds everything that is not private."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 7
    """Seeds splits, partitions, initialisation and evaluation; never DP noise or Poisson sampling."""


class TaskSection(_Section):
    """What is learned."""

    kind: TaskKind = "sequence-classification"
    labels: Annotated[list[str], Field(max_length=1000, validate_default=True)] = []
    """Of texts or of words (BIO, with "O"); none under masked-language-modeling, whose labels are the tokens."""
    max_length: Annotated[int, Field(ge=8, le=8192)] = 64
    """Longest input in tokens; longer texts are cut."""

    @field_validator("labels")
    @classmethod
    def _unique(cls, labels: list[str], given: ValidationInfo) -> list[str]:
        if given.data.get("kind") == "masked-language-modeling":
            if labels:
                raise ValueError("masked-language-modeling has no labels; leave them out")
            return labels
        if len(labels) < 2:
            facts = {"field_type": "List", "min_length": 2, "actual_length": len(labels)}
            raise PydanticKnownError("too_short", facts)
        if len(set(labels)) != len(labels) or not all(label.strip() for label in labels):
            raise ValueError("labels must be distinct and not empty")
        return labels


class ModelSection(_Section):
    """Which BERT, and what of it trains."""

    base: Annotated[str, Field(min_length=1)] = "minilm-l6"
    """``minilm-l6`` (embedded), a hub id with revision (``google-bert/bert-base-uncased@<commit>``), or a
    local folder."""
    trainable: Literal["full", "lora", "bias", "head"] = "lora"
    pooling: Literal["mean", "cls"] = "mean"
    warm_start_steps: Annotated[int, Field(ge=0)] = 20
    """DP steps of the head alone on frozen features before anything else trains; 0 = none."""
    warm_start_rounds: Annotated[int, Field(ge=1)] = 2
    """Rounds over which the warm-start steps are spread."""
    warm_start_learning_rate: Positive = 4.0
    lora_rank: Annotated[int, Field(ge=1, le=256)] = 2
    lora_alpha: Positive = 4.0
    lora_targets: Literal["value", "attention", "without-query-key", "all"] = "value"
    """``value``: value projections, where the signal is when few noisy steps must do; ``attention``: query and
    value; ``without-query-key``: every linear layer of the encoder but those two; ``all``: every one."""


class DataSection(_Section):
    """Where the data comes from. In a deployment sites bring their own."""

    source: Annotated[str, Field(min_length=1)] = "embedded"
    text_column: Annotated[str, Field(min_length=1)] = "text"
    label_column: Annotated[str, Field(min_length=1)] = "label"
    partition: Literal["column", "iid", "dirichlet"] = "column"
    column: str = "domain"
    """Column that names the institution (``partition = "column"``) and the domain in reports."""
    sites: Annotated[int, Field(ge=1, le=10_000)] = 4
    alpha: Positive = 0.5
    """Concentration of the Dirichlet partition over labels; smaller is more skewed."""
    validation_fraction: Fraction = 0.05
    test_fraction: Fraction = 0.15
    """Share held out as the public test set; a source with its own test file uses that instead."""
    validation_rows: Annotated[int, Field(ge=1)] = 1000
    """At most this many validation rows are scored after a round."""


class PrivacySection(_Section):
    """The guarantee each institution gets, over the whole study."""

    enabled: bool = True
    unit: Literal["example", "group", "institution"] = "example"
    group_column: str = ""
    """Column of the data that names each row's person; needed by ``unit = "group"`` and by no other."""
    rows_per_group: Annotated[int, Field(ge=1)] = 8
    """``unit = "group"``: a person with more rows trains with this many of them, chosen by a keyed hash."""
    epsilon: Positive = 8.0
    delta: Literal["auto"] | Annotated[float, Field(ge=1e-12, lt=1)] = "auto"
    """``auto``: declared size ** -1.1, at most 1e-5."""
    max_grad_norm: Positive = 1.0
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Expected size of a Poisson batch, in units."""

    @property
    def noised_at_sites(self) -> bool:
        """Whether each site clips, adds noise and pays for it."""
        return self.enabled and self.unit != "institution"

    @property
    def noised_centrally(self) -> bool:
        """Whether the coordinator clips and noises whole updates instead (P19)."""
        return self.enabled and self.unit == "institution"


class FederationSection(_Section):
    """How rounds run and how updates become one model."""

    rounds: Annotated[int, Field(ge=0, le=100_000)] = 10
    steps_per_round: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Local DP steps a site takes in a round."""
    strategy: Literal["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "median", "trimmed-mean", "krum"] = (
        "fedavg"
    )
    server_learning_rate: Positive = 1.0
    server_learning_rate_decay: Literal["none", "linear"] = "none"
    """``linear``: falls towards zero over the rounds after the warm start."""
    server_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    proximal_mu: NonNegative = 0.0
    """Strength of FedProx's pull towards the round's start."""
    malicious_sites: Annotated[int, Field(ge=0)] = 0
    """Krum: how many sites may be malicious. Trimmed mean: how many are cut at each end."""
    weighting: Literal["size", "equal", "inverse-variance"] = "size"
    """Weights of the mean: declared sizes, one each, or what a site's update is worth at its noise."""
    selection: Literal["all", "uniform", "bandit"] = "all"
    """Who is asked in a round: everybody, some by lot, or those whose updates helped most for their epsilon."""
    sites_per_round: Annotated[int, Field(ge=0)] = 0
    """How many sites a round asks under ``uniform`` and ``bandit``."""
    keep_updates: bool = False
    """Keep each round's updates in the run directory, for `hanse contribution`."""
    min_sites: Annotated[int, Field(ge=1)] = 1
    """A round with fewer replies stops the run."""
    round_timeout: str = "30m"
    evaluate_every: Annotated[int, Field(ge=1)] = 1
    """Score the global model every so many rounds (the last round always)."""

    @field_validator("round_timeout")
    @classmethod
    def _duration(cls, value: str) -> str:
        match = _DURATION.match(value)
        if not match or float(match[1]) <= 0:
            raise ValueError('must be a duration above zero such as "90s", "30m" or "2h"')
        return value

    @property
    def round_timeout_seconds(self) -> float:
        """The round's deadline in seconds."""
        match = _DURATION.match(self.round_timeout)
        assert match is not None  # checked when the study was parsed
        return float(match[1]) * _SECONDS[match[2]]


class TrainingSection(_Section):
    """The local optimizer and the machine it runs on."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NonNegative = 0.0
    clipping: Literal["flat", "automatic"] = "flat"
    """``flat``: a longer gradient is scaled to max_grad_norm. ``automatic``: every one is, nearly (Bu et al.
    2022), so that max_grad_norm only rescales the learning rate; the privacy is the same."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Chance that a token of a training text is hidden from the model; the first never is."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of an example's target that is spread over all labels alike."""
    adversarial_radius: NonNegative = 0.0
    """Adversarial training: how far each example's embeddings move against it, after the warm start; 0 = not."""
    physical_batch_size: Literal["auto"] | Annotated[int, Field(ge=1)] = 32
    """Examples whose gradients are held at once; a logical batch is split into these."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 autocast where the hardware multiplies it, float32 elsewhere."""


class SimulationSection(_Section):
    """How a simulation spreads virtual institutions over this machine or a Ray cluster."""

    engine: Literal["local", "ray"] = "local"
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = "auto"
    gpus_per_site: Annotated[float, Field(ge=0, le=64)] = 0.0


class SiteSection(_Section):
    """Where one institution differs from the rest."""

    name: Name
    epsilon: Positive | None = None
    weight: Positive | None = None
    declared_size: Annotated[int, Field(ge=1)] | None = None


class Study(_Section):
    """A whole study, checked. Parse one with :func:`common.study_file.read_study`."""

    study: StudySection
    task: TaskSection
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    privacy: PrivacySection = PrivacySection()
    federation: FederationSection = FederationSection()
    training: TrainingSection = TrainingSection()
    simulation: SimulationSection = SimulationSection()
    site: list[SiteSection] = []

    def site_section(self, name: str) -> SiteSection:
        """What the study says of one site; an empty section where it says nothing."""
        nothing = SiteSection.model_construct(name=name)  # a virtual site may have a name that no section could
        return next((section for section in self.site if section.name == name), nothing)

    def epsilon_of(self, name: str) -> float:
        """The target epsilon of the site called ``name``."""
        return self.site_section(name).epsilon or self.privacy.epsilon

    def delta_of(self, declared_size: int) -> float:
        """Delta of a site with that declared size (ACCOUNTING, trap 11): size ** -1.1, at most 1e-5."""
        if self.privacy.delta == "auto":
            return float(min(1e-5, float(declared_size) ** -1.1))
        return self.privacy.delta

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, every key present; the same study gives the same text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Study:
        """Read back :meth:`to_json`; raises ``pydantic.ValidationError`` on anything else."""
        return cls.model_validate_json(text)

    def digest(self, base_digest: str) -> str:
        """SHA-256 (hex) that names the study: its plan and the digest of base weights and tokenizer.

        How the simulation is spread over processes cannot change what is computed, so ``[simulation]``,
        the device and the location of a local base folder are left out (its weights are in).
        """
        plan: dict[str, Any] = self.model_dump(mode="json")
        del plan["simulation"]
        del plan["training"]["device"]
        if Path(self.model.base).is_absolute():
            plan["model"]["base"] = "local"
        if Path(self.data.source).is_absolute():
            plan["data"]["source"] = "local"
        body = {"base": base_digest, "study": plan}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
