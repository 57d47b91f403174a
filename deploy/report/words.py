"""A run in a few sentences, the guarantee first (PRIVACY P1, P2)."""

from __future__ import annotations

from deploy.report.facts import RunFacts
from deploy.report.figures import headline_name

__all__ = ["summary"]

_UNITS = {"example": "row", "group": "person", "institution": "institution"}
_NO_PROOF = (
    "The ledgers behind these figures prove that their history is unaltered, complete against the witnessed heads "
    "and within policy. That what they record is what ran rests on each site's own guard; this report does not "
    "prove it, and is no audit (see hanse audit ledger)."
)


def summary(run: RunFacts) -> list[str]:
    """Sentences for a reader who reads nothing else."""
    said = [_privacy(run), _course(run), _scores(run)]
    if run.private:
        said.append(_NO_PROOF)
    return [sentence for sentence in said if sentence]


def _privacy(run: RunFacts) -> str:
    if not run.private:
        return "This run was not private: no clipping and no noise. Its figures are for comparison only."
    found, unit = run.guarantee, _UNITS[run.study.privacy.unit]
    if found is None:
        return "No round has been charged yet."
    delta = f" at delta {found.delta:.1e}" if found.delta else ""
    if run.central:
        return (
            f"Adding or removing one whole institution is covered by epsilon {found.epsilon:.3f}{delta}, against "
            "everyone but the coordinator, which saw every update."
        )
    whole = "" if run.state == "finished" else ", all its rounds counted, run or not"
    said = f"One {unit} at one site is covered by epsilon {found.epsilon:.3f}{delta} at most, over this run alone"
    said += f"{whole}."
    if len(run.sites) > 1:
        delta = f", delta {found.delta_everywhere:.1e}" if found.delta_everywhere else ""
        said += (
            f" Somebody with one {unit} at each of the {len(run.sites)} sites has what all of them cost together: "
            f"epsilon {found.epsilon_everywhere:.3f}{delta}."
        )
    if unit == "row":
        said += " A person with several rows is protected less."
    claims = [facts.claim.epsilon for facts in run.ledgers.values()]
    if claims and max(claims) > max(site.epsilon_budget or 0.0 for site in run.sites) * (1 + 1e-9):
        said += f" With every run in the sites' ledgers it is up to epsilon {max(claims):g} at one site."
    return said


def _course(run: RunFacts) -> str:
    rounds = f"{len(run.rounds)} of {run.planned_rounds} rounds"
    sites = f"{len(run.sites)} sites" if run.sites else "Sites"
    if run.state == "finished":
        seconds = (run.result or {}).get("seconds", {}).get("total")
        took = f" in {seconds:.0f} seconds" if seconds else ""
        return f"{sites} trained {run.study.model.trainable} of {run.study.model.base} for {rounds}{took}."
    if run.state == "failed":
        return f"The run failed after {rounds}: {run.message}"
    state = "is under way" if run.state == "going" else "has stopped without a result"
    return f"The run {state}: {rounds} are done."


def _scores(run: RunFacts) -> str:
    if run.test is None:
        scored = [record for record in run.rounds if record.evaluation]
        if not scored or scored[-1].evaluation is None:
            return ""
        told = headline_name(run.study)
        return f"After round {scored[-1].round} the validation {told} is {scored[-1].evaluation.headline:.4f}."
    overall, worst = run.test["overall"], run.test.get("worst_domain")
    if "accuracy" not in overall:
        return ""
    said = f"The model of round {(run.result or {}).get('best_round')} has accuracy {overall['accuracy']:.4f}"
    said += f" on {overall['examples']} test examples that no site trained on"
    if worst and len(run.test["by_domain"]) > 1:
        said += f"; worst on {worst}: {run.test['by_domain'][worst]['accuracy']:.4f}"
    return said + "."
