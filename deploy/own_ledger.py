"""The ledger of the institution whose folder `--site` names, and the datasets in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from client.site_directory import SiteDirectory
from common.errors import BadInput
from common.privacy.ledger.book import Ledger
from common.privacy.ledger.history import History

if TYPE_CHECKING:
    from client.policy import Policy

__all__ = ["chosen_datasets", "open_own_ledger", "policy_name", "policy_of"]


def open_own_ledger(site: Path) -> Ledger:
    """The ledger of a site's folder, in the database that its policy names, if any; never makes one.

    Raises:
        BadInput: no such folder, no ledger in it, or a policy that cannot be read.
    """
    policy = policy_of(site)
    return SiteDirectory(site).existing_ledger("" if policy is None else policy.ledger.url)


def policy_name(site: Path) -> str | None:
    """What the policy in a site's folder calls the site; None where there is no policy."""
    policy = policy_of(site)
    return None if policy is None else policy.site.name


def chosen_datasets(history: History, dataset: str | None) -> list[str]:
    """Names of the datasets that have a budget, in order of opening; only ``dataset`` where one is given.

    Raises:
        BadInput: ``dataset`` has no budget.
    """
    known = list(dict.fromkeys(budget.dataset for budget in history.budgets.values()))
    if dataset is None:
        return known
    if dataset not in known:
        names = ", ".join(f'"{name}"' for name in known) or "none"
        raise BadInput(f'--dataset "{dataset}": has no budget in this ledger; it has budgets for: {names}')
    return [dataset]


def policy_of(site: Path) -> Policy | None:
    """The policy in a site's folder; None where there is none."""
    path = SiteDirectory(site).policy
    if not path.exists():
        return None
    from client.policy_file import read_policy

    return read_policy(path)
