"""The explanation as one HTML page that needs no other file and runs no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from deploy.explain.attributions import LARGEST_ERROR, Attributions
from deploy.explain.explanation import Explanation
from deploy.explain.pictures import attention_picture, projection_picture
from deploy.public_texts import NOTICE

__all__ = ["explanation_page"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
.token { padding: 0 .15em; border-radius: .2em; white-space: pre-wrap }
table { border-collapse: collapse }
td, th { padding: .15rem .7rem; border-bottom: 1px solid #ddd; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto } img { max-width: 100% }
.notice { border-left: 4px solid #b50; padding-left: .7rem }
"""


def explanation_page(explanation: Explanation, model: str) -> str:
    """The page; ``model`` names the model in its title."""
    body = "\n".join(
        [
            f"<h1>What {escape(model)} goes by</h1>",
            f'<p class="notice">{escape(NOTICE)}</p>',
            *_texts(explanation),
            *_influential(explanation),
            *_surrogates(explanation),
            *_projection(explanation),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(model)}: explanation</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _texts(explanation: Explanation) -> Iterator[str]:
    for number, each in enumerate(explanation.texts, start=1):
        label = explanation.labels[each.label]
        yield f"<h2>Text {number}: {escape(label)} ({each.probability:.1%})</h2>"
        yield f"<p>{_coloured(each)}</p>"
        yield (
            f"<p>Green speaks for {escape(label)}, red against it. The tokens' shares add up to "
            f"{sum(each.values):+.4f}, the margin moves by {each.margin - each.baseline_margin:+.4f} from the "
            f"masked text: completeness error {each.completeness_error:.3%} (must be below {LARGEST_ERROR:.0%}; "
            f"{each.points} points).</p>"
        )
        picture = attention_picture(explanation.attention[number - 1], each.tokens)
        yield (
            f'<p><img alt="attention by layer" src="{picture}"></p><p>Attention by layer, mean over heads. '
            "A model that Hanse saved with mean pooling ends in one layer of uniform attention: the pooling.</p>"
        )


def _coloured(each: Attributions) -> str:
    largest = max((abs(value) for value in each.values), default=0.0) or 1.0
    spans = []
    for token, value in zip(each.tokens, each.values, strict=True):
        colour = "0,140,60" if value > 0 else "200,30,30"
        strength = abs(value) / largest * 0.75
        spans.append(
            f'<span class="token" title="{value:+.4f}" style="background: rgba({colour},{strength:.2f})">'
            f"{escape(token)}</span>"
        )
    return " ".join(spans)


def _influential(explanation: Explanation) -> Iterator[str]:
    if not explanation.influential:
        return
    yield "<h2>Most influential words</h2>"
    yield (
        f"<p>Mean attribution over {explanation.attributed} texts; largest completeness error "
        f"{explanation.worst_completeness_error:.3%}.</p>"
        "<table><tr><th>answer</th><th>word</th><th>times</th><th>mean</th></tr>"
    )
    for row in explanation.influential:
        yield (
            f'<tr><td>{escape(row.label)}</td><td>{escape(row.word)}</td><td class="number">{row.occurrences}</td>'
            f'<td class="number">{row.mean:+.3f}</td></tr>'
        )
    yield "</table>"


def _surrogates(explanation: Explanation) -> Iterator[str]:
    if not explanation.surrogates:
        return
    yield "<h2>Simple imitations</h2>"
    for each in explanation.surrogates:
        yield (
            f"<h3>{escape(each.name)}</h3><p>Answers as the model does on {each.fidelity:.1%} of {each.held_out} "
            f"held-out texts; always giving the commonest answer: {each.commonest:.1%}.</p>"
            f"<pre>{escape(each.rules)}</pre>"
        )


def _projection(explanation: Explanation) -> Iterator[str]:
    if explanation.projection is None:
        return
    picture = projection_picture(
        explanation.projection, explanation.answers, explanation.labels, marked=len(explanation.texts)
    )
    yield "<h2>Pooled features</h2>"
    yield f'<p><img alt="pooled features" src="{picture}"></p>'
    yield "<p>What the last layer sees of each text, along its two main directions; colours are the answers.</p>"
