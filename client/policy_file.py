"""Reads a policy from TOML, with errors an officer can act on, and holds the text to start one from."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path

from pydantic import ValidationError

from client.policy import Policy
from common.errors import BadInput, NotYet
from common.toml_faults import Wording, faults

__all__ = ["POLICY_TEMPLATE", "parse_policy", "read_policy"]

POLICY_TEMPLATE = """\
# What this institution agrees to. Written by its officer; read by `hanse`, never changed by it.
# Fill in every line marked FILL IN; the other keys hold their defaults. See docs/policy.md.
# `hanse policy check` says whether the file is complete, and with a study, whether this policy agrees to it.

[site]
name = ""                    # FILL IN: what studies call this institution, such as "north-clinic"

[dataset]
name = ""                    # FILL IN: what the ledger calls the data; new content keeps the name and its budget
unit = ""                    # FILL IN: whom it protects: example (a row) | group (a person) | institution
one_row_per_person = false   # your statement that nobody has two rows; unit = "example" needs it to be true
declared_size = 0            # FILL IN: how many units, rounded as you like; the coordinator is told this number
group_column = ""            # unit = "group": the column that holds a person's id
public = false               # true: anyone may read the data, and a study may train on it without privacy

[budget]
epsilon = 0.0                # FILL IN: most that everything released may cost a unit, over the data's life
delta = "auto"               # declared_size^-1.1, at most 1e-5
kind = "plan"                # plan: one study, fixed in advance | filter: several studies, as they come
# order = 8                  # filter only: the Renyi order at which it counts, for good
# epsilon_per_study = 4.0    # most that one study may ask for
# epsilon_per_round = 1.0    # most that one round may cost, taken alone

[allow]
approval = "required"        # required: only studies approved with `hanse policy approve` | none
tasks = ["sequence-classification"]
models = ["minilm-l6"]       # as in model.base of a study; "*" allows any
trainable = ["lora", "head"] # full | lora | bias | head
strategies = ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "median", "trimmed-mean", "krum"]
min_noise_multiplier = 0.3   # least noise of a step, whatever the accountant says
min_sites = 2                # a round of fewer sites must not count
# expires = 2027-12-31       # last day on which this policy agrees to anything

[disclose]
labels = []                  # FILL IN: names of the labels, which thereby are public
validation_epsilon = 0.0     # validation metrics of the site: not yet

[ledger]
url = ""                     # postgresql://user@host/name, without a password; "" for a file in the site's folder
"""
"""What ``hanse policy new`` writes: every key, and nothing said that only an officer can say."""

_MEND = {
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "model_type": "must be a table of keys",
    "string_pattern_mismatch": "may hold letters, digits, '.', '_' and '-', and starts with a letter or digit",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "needs at least {min_length} entries",
    "too_long": "may have at most {max_length} entries",
    "finite_number": "must be a finite number",
    "date_type": "must be a date without quotes, such as 2027-12-31",
}

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SECRET = re.compile(r"(?<=://)[^@/\s]*(?=@)|(?<=password=)[^&\s]*")
_WORDING = Wording(Policy, _MEND, _SECRET)


def read_policy(path: Path) -> Policy:
    """Parse the policy in the TOML file at ``path``.

    Others may read the file, which holds no data and no secret, but whoever may write it decides what the
    institution agrees to: a file that group or others may write is refused (PRIVACY P22).

    Raises:
        BadInput: the file is missing, is writable by others, is not TOML, or holds a key or value that is not
            allowed; one line for each fault.
        NotYet: a legal value that this version of Hanse cannot carry out.
    """
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; name the policy file in it, such as {path / 'policy.toml'}")
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            content = stream.read()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such policy; `hanse policy new {path}` writes a commented one") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    if os.name == "posix" and mode & _OTHERS_MAY_WRITE:
        raise BadInput(f"{path}: mode {mode:o}: others may change it; run chmod 600 on it and read it again")
    try:
        return parse_policy(content.decode("utf-8"), where=str(path))
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from None


def parse_policy(text: str, where: str) -> Policy:
    """Parse a policy from TOML text; ``where`` names it in errors. Raises as :func:`read_policy` does."""
    try:
        tree = tomllib.loads(text)
    except ValueError as error:  # also a whole number of more digits than Python reads
        raise BadInput(f"{where}: is not valid TOML: {error}") from None
    if not tree:
        raise BadInput(f"{where}: is empty; `hanse policy new` writes a commented policy")
    try:
        return Policy.model_validate(tree)
    except ValidationError as error:
        found = faults(error, tree, _WORDING)
    except NotYet as error:
        raise NotYet(f"{where}: {error}") from None
    except BadInput as error:
        found = str(error).splitlines()
    raise BadInput("\n".join(f"{where}: {fault}" for fault in found))
