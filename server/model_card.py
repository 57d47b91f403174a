"""The model card beside the exported weights: what the model is, how good, and what privacy it cost."""

from __future__ import annotations

from typing import Any

__all__ = ["model_card"]


def model_card(result: dict[str, Any], labels: list[str]) -> str:
    """README.md of the model folder, from the content of ``result.json``."""
    test = result["test"]["overall"]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        "---",
        f"# {result['study']}",
        "",
        f"A BERT fine-tuned by {len(result['sites'])} institutions with Hanse. Labels: {', '.join(labels)}.",
        "",
        "## Privacy",
        "",
        result["privacy"]["statement"],
        "",
        *_site_table(result),
        *[f"Not covered: {gap}." for gap in result["privacy"].get("not_covered", [])],
        *([f"Noise: {result['privacy']['noise']}"] if result["private"] else []),
        "",
        "## Test set",
        "",
        f"Accuracy {test['accuracy']:.4f}, macro F1 {test['macro_f1']:.4f}, "
        f"MCC {test['matthews_correlation']:.4f}, "
        f"log loss {test['loss']:.4f}, expected calibration error {test['expected_calibration_error']:.4f} "
        f"on {test['examples']} examples that no site trained on.",
        "",
        f"Study digest `{result['digest']}`.",
    ]
    return "\n".join(lines) + "\n"


def _site_table(result: dict[str, Any]) -> list[str]:
    if not result["private"]:
        return []
    rows = [
        f"| {site['name']} | {site['epsilon']:.3f} | {site['delta']:.1e} | {site['noise_multiplier']:.4f} | "
        f"{site['sample_rate']:.4f} | {site['steps']} |"
        for site in result["sites"]
    ]
    head = "| site | epsilon | delta | noise multiplier | sample rate | steps |"
    return [head, "|---|---|---|---|---|---|", *rows, ""]
