"""The worked auction and posted prices of ECONOMICS, section 3, as files."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SELLERS", "write_bids"]

_BIDS = [
    (1000, 4.0, "120"),
    (2000, 2.0, "90"),
    (4000, 1.0, "130"),
    (1500, 8.0, "260"),
    (3000, 2.0, "210"),
    (800, 8.0, "320"),
]


def write_bids(path: Path, call: str = "") -> Path:
    """Example 1 of six bidders; ``call`` adds a line to the call."""
    lines = ["[call]", 'budget = "1000"', call]
    lines += ["[value]", "spread = 1.0", "noise_constant = 20000.0", "public_precision = 500.0"]
    for number, (size, epsilon, price) in enumerate(_BIDS):
        lines += ["[[bid]]", f'site = "s{number}"', f"declared_size = {size}", f"epsilon = {epsilon}"]
        lines += [f'price = "{price}"']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _seller(number: int, **facts: float) -> str:
    return f'[[seller]]\nsite = "s{number}"\n' + "".join(f"{name} = {value}\n" for name, value in facts.items())


SELLERS = {
    "log": (
        '[gain]\nkind = "log"\nscale = 20.0\n'
        + "".join(_seller(i, weight=w, cost=c) for i, (w, c) in enumerate([(3.0, 1.0), (2.0, 2.0), (1.0, 0.5)])),
        1.609028,
    ),
    "precision": (
        "[gain]\nscale = 100.0\nspread = 1.0\nnoise_constant = 400.0\npublic_precision = 2000.0\n"
        + "".join(
            _seller(i, declared_size=n, cost=c, cap=cap)
            for i, (n, c, cap) in enumerate(
                [(1000, 3.0, 4.0), (2000, 2.0, 2.0), (4000, 6.0, 1.0), (1500, 1.5, 8.0), (3000, 4.0, 3.0)]
            )
        ),
        1.787223,
    ),
}
"""A file's text and the equilibrium's price, by the kind of gain."""
