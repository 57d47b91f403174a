"""The study that runs when none is named, and the text that `hanse study new` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.study import Study
from common.study_file import parse_study, read_study

__all__ = ["DEFAULT_STUDY", "load_study"]

DEFAULT_STUDY = """\
# A Hanse study. The same file drives a simulation, a deployment and an audit.
# Keys left out take their defaults; `hanse study show` prints them all.

[study]
name = "reviews"
seed = 7                   # splits, partition, initialisation; never DP noise or sampling of a private run

[task]
kind = "sequence-classification"
labels = ["negative", "positive"]
max_length = 64            # tokens; longer texts are cut

[model]
base = "minilm-l6"         # embedded; or "owner/name@<commit>" on the Hugging Face hub; or a local folder
trainable = "lora"         # full | lora | bias | head
pooling = "mean"           # mean | cls
warm_start_steps = 20      # DP steps of the head on frozen features before LoRA, in the same budget; 0 = none
warm_start_rounds = 2
warm_start_learning_rate = 4.0
lora_rank = 2
lora_alpha = 4.0
lora_targets = "value"     # value | attention | without-query-key | all

[data]                     # simulation only: real sites bring their own
source = "embedded"        # or a .csv, .jsonl or .parquet, a folder with train.* and test.*, or "hub:ID"
partition = "column"       # column | iid | dirichlet
column = "domain"          # film reviews, product reviews, editorials, tweets: one institution each
sites = 4

[privacy]
unit = "example"           # one row is protected; a person with several rows is protected less
# unit = "group"           # all rows of a person are protected together; sizes and batches count persons
# group_column = "person"  # with unit = "group": the column that names each row's person
# rows_per_group = 8       # with unit = "group": at most so many rows of a person train
epsilon = 8.0              # per institution, over the whole study
delta = "auto"             # (declared size)^-1.1, at most 1e-5
max_grad_norm = 1.0
batch_size = 128           # expected Poisson batch of a site
enabled = true

[federation]
rounds = 15
steps_per_round = 1        # local DP steps; privacy is counted in steps, not epochs
strategy = "fedadam"       # fedavg fedprox fedavgm fedadam fedyogi median trimmed-mean krum
server_learning_rate = 0.004
weighting = "size"         # size (declared) | equal | inverse-variance
# keep_updates = true      # each site's update of each round stays in the run directory, for hanse contribution
# selection = "uniform"    # all | uniform | bandit; with sites_per_round = 2
min_sites = 2
round_timeout = "30m"
evaluate_every = 2

[training]
optimizer = "sgd"          # sgd | adamw; fresh in every round
learning_rate = 1.0
physical_batch_size = 32   # rows trained on at once; or "auto", from a memory budget
device = "auto"            # CUDA, then MPS, then CPU

[simulation]
engine = "local"           # local | ray
workers = "auto"
"""


def load_study(path: Path | None, overrides: Sequence[str]) -> Study:
    """The study in a file, or the default one, with ``--set`` overrides."""
    if path is None:
        return parse_study(DEFAULT_STUDY, where="default study", overrides=overrides, folder=Path.cwd())
    return read_study(path, overrides)
