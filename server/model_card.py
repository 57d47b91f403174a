"""The model card beside the exported weights: what the model is, how good, and what privacy it cost."""

from __future__ import annotations

from typing import Any

__all__ = ["model_card"]


def model_card(result: dict[str, Any], labels: list[str]) -> str:
    """README.md of the model folder, from the content of ``result.json``; without ``labels`` a masked model."""
    pipeline = "token-classification" if "entities" in result["test"] else "text-classification"
    said = (
        f" Labels: {', '.join(labels)}." if labels else " It guesses hidden words; made to be fine-tuned further."
    )
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {pipeline if labels else 'fill-mask'}",
        "---",
        f"# {result['study']}",
        "",
        f"A BERT fine-tuned by {len(result['sites'])} institutions with Hanse.{said}",
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
        _figures(result["test"]),
        "",
        f"Study digest `{result['digest']}`.",
    ]
    return "\n".join(lines) + "\n"


def _figures(evaluation: dict[str, Any]) -> str:
    """The figures of the test set in a sentence."""
    test, entities = evaluation["overall"], evaluation.get("entities")
    if "perplexity" in test:
        return (
            f"Log loss {test['loss']:.4f} (perplexity {test['perplexity']:.1f}), accuracy {test['accuracy']:.4f} "
            f"on {test['examples']} hidden tokens of texts that no site trained on."
        )
    found = f"Entity F1 {entities['f1']:.4f} on {entities['entities']} entities. " if entities else ""
    return (
        f"{found}Accuracy {test['accuracy']:.4f}, macro F1 {test['macro_f1']:.4f}, "
        f"MCC {test['matthews_correlation']:.4f}, "
        f"log loss {test['loss']:.4f}, expected calibration error {test['expected_calibration_error']:.4f} "
        f"on {test['examples']} {'words' if entities else 'examples'} that no site trained on."
    )


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
