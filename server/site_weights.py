"""Weights of the mean by inverse variance: a site whose noise is twice as large counts a quarter as much.

A site's mean gradient has a variance of at most ``C^2 / n`` from its finite sample and of ``d (sigma C / b)^2
/ T`` from its noise (``server.economics.weighting``), all of it public: declared size n, noise multiplier sigma,
batch b, planned steps T, and the number d of trained parameters, which overstates the effective dimension.
Without noise these are the weights by size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from common.schedule import planned_steps
from common.study import Study
from common.wire import SiteDescription
from server.economics.weighting import dp_sgd_variance

__all__ = ["weighted_sites"]


def weighted_sites(
    study: Study, sites: Mapping[int, SiteDescription], parameters: int
) -> dict[int, SiteDescription]:
    """The sites with the weights that the study asks for; a weight that it states for one site stays.

    Args:
        study: what ``federation.weighting`` says.
        sites: by node, as they described themselves.
        parameters: how many are trained.
    """
    if study.federation.weighting != "inverse-variance":
        return dict(sites)
    return {node: _weighted(study, site, parameters) for node, site in sites.items()}


def _weighted(study: Study, site: SiteDescription, parameters: int) -> SiteDescription:
    if study.site_section(site.name).weight is not None:
        return site
    privacy = study.privacy
    noise = dp_sgd_variance(
        parameters, site.noise_multiplier, privacy.max_grad_norm, privacy.batch_size, planned_steps(study)
    )
    return replace(site, weight=1 / (privacy.max_grad_norm**2 / site.declared_size + noise))
