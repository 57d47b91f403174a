"""The process in which Opacus' PRV accountant runs: questions on standard input, answers on standard output.

Run as ``python -m common.privacy.prv_process`` by ``common.privacy.prv`` alone; the only module here that
imports Opacus, and with it torch.
"""

from __future__ import annotations

import json
import sys

__all__ = ["MEMORY_LIMIT", "main"]

MEMORY_LIMIT = 16 * 2**30
"""Bytes of address space that the process may take."""


def main() -> None:
    """Answer every question: lower, estimate and upper epsilon at a delta, or one delta at an epsilon."""
    _limit_memory()
    from opacus.accountants.prv import PRVAccountant

    asked = json.load(sys.stdin)
    answers = []
    for question in asked["questions"]:
        accountant = PRVAccountant()
        accountant.history = [tuple(entry) for entry in question["history"]]
        losses = accountant._get_dprv(eps_error=asked["eps_error"], delta_error=question["delta_error"])
        if "epsilon" in question:
            answers.append([float(losses.compute_delta_estimate(question["epsilon"]))])
        else:
            bounds = losses.compute_epsilon(question["delta"], question["delta_error"], asked["eps_error"])
            answers.append([float(bound) for bound in bounds])
    json.dump(answers, sys.stdout)


def _limit_memory() -> None:
    """Let a grid of absurd size fail here, where the system allows a limit, before it harms the machine."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, hard))


if __name__ == "__main__":
    main()
