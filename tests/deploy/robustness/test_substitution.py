"""The attacker follows the gradient, stays within its bounds, and turns texts that the model answered rightly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.open_model import OpenModel
from deploy.robustness.substitution import Attack, Candidates, attack
from tests.deploy.trained import trained_tiny_model
from tests.tiny import BAD, GOOD, OTHER, tiny_rows

ROWS = tiny_rows(30, seed=21)
TEXTS = [row[0] for row in ROWS]
TARGETS = [int(row[1] == "positive") for row in ROWS]
FREE = Attack(words=1, tried=8, similarity=-1.0)


@pytest.fixture(scope="module")
def model(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    """A tiny model that has learned good and bad words."""
    return OpenModel(trained_tiny_model(tiny_base, tiny_data, tmp_path_factory.mktemp("trained")))


def test_the_model_has_learned_its_task(model: OpenModel) -> None:
    assert (model.probabilities(TEXTS).argmax(axis=1) == np.array(TARGETS)).mean() > 0.9


def test_candidates_are_the_words_of_the_vocabulary(model: OpenModel) -> None:
    words = {word for word in (*GOOD, *BAD, *OTHER) if len(word) > 1}
    assert set(Candidates(model).written) == words


def test_words_stand_where_the_text_has_them(model: OpenModel) -> None:
    text = "  the good, zzz film"
    found = model.words(text)
    assert [text[word.start : word.end] for word in found] == ["the", "good", "zzz", "film"]
    tokens = model.tokens(text)
    assert [tokens[word.position] for word in found] == ["the", "good", "[UNK]", "film"]


def test_gains_are_the_first_order_change_of_the_loss(model: OpenModel) -> None:
    text, candidates = TEXTS[0], Candidates(model)
    (gradient,) = model.embedding_gradients([text], [TARGETS[0]])
    words = model.words(text)
    gains = candidates.gains(words, gradient, similarity=-1.0)
    encoded = model.encode([text])
    embedded = model.embeddings[encoded.ids]

    def loss(moved: torch.Tensor) -> float:
        logits = model.network(inputs_embeds=moved, attention_mask=encoded.mask).logits.double()
        return float(torch.nn.functional.cross_entropy(logits, torch.tensor([TARGETS[0]])))

    step = 1e-2
    for order, word in enumerate(words):
        for which in (0, 7):
            change = torch.zeros_like(embedded)
            change[0, word.position] = model.embeddings[candidates.tokens[which]] - embedded[0, word.position]
            slope = (loss(embedded + step * change) - loss(embedded - step * change)) / (2 * step)
            if candidates.tokens[which] != word.token:
                assert gains[order, which] == pytest.approx(slope, rel=0.05, abs=1e-3)
            else:
                assert gains[order, which] == -np.inf


def test_the_similarity_bound_is_kept(model: OpenModel) -> None:
    candidates, words = Candidates(model), model.words(TEXTS[0])
    (gradient,) = model.embedding_gradients([TEXTS[0]], [TARGETS[0]])
    gains = candidates.gains(words, gradient, similarity=0.1)
    allowed = 0
    for order, word in enumerate(words):
        for which in np.flatnonzero(np.isfinite(gains[order])):
            pair = model.embeddings[word.token], model.embeddings[candidates.tokens[which]]
            assert float(torch.cosine_similarity(*pair, dim=0)) >= 0.1 - 1e-6
            allowed += 1
    assert 0 < allowed < gains.size / 2


@pytest.mark.parametrize("words", [1, 2])
def test_at_most_so_many_words_differ_and_the_outcome_is_what_the_model_says(model: OpenModel, words: int) -> None:
    victims = attack(model, TEXTS, TARGETS, replace(FREE, words=words))
    right = np.flatnonzero(model.probabilities(TEXTS).argmax(axis=1) == np.array(TARGETS))
    assert [victim.row for victim in victims] == right.tolist()
    answers = model.probabilities([victim.text for victim in victims]).argmax(axis=1)
    for victim, answer in zip(victims, answers, strict=True):
        pairs = zip(TEXTS[victim.row].split(), victim.text.split(), strict=True)
        assert sum(one != other for one, other in pairs) <= victim.replaced <= words
        assert victim.fooled == (answer != TARGETS[victim.row])
    assert any(victim.fooled for victim in victims)


def test_the_gradient_does_better_than_chance(model: OpenModel) -> None:
    """As many substitutions drawn by chance turn fewer texts."""
    chooser, candidates = np.random.default_rng(0), Candidates(model)
    one_try = attack(model, TEXTS, TARGETS, replace(FREE, tried=1))
    by_gradient = sum(victim.fooled for victim in one_try)
    changed = []
    for victim in one_try:
        words = TEXTS[victim.row].split()
        words[chooser.integers(len(words))] = candidates.written[chooser.integers(len(candidates.written))]
        changed.append(" ".join(words))
    answers = model.probabilities(changed).argmax(axis=1)
    by_chance = sum(answer != TARGETS[victim.row] for answer, victim in zip(answers, one_try, strict=True))
    assert by_gradient > by_chance


def test_nothing_in_it_is_random(model: OpenModel) -> None:
    assert attack(model, TEXTS, TARGETS, FREE) == attack(model, TEXTS, TARGETS, FREE)


def test_a_text_without_words_is_left_alone(model: OpenModel) -> None:
    answer = int(model.probabilities(["12 !"]).argmax())
    (victim,) = attack(model, ["12 !"], [answer], FREE)
    assert (victim.text, victim.replaced, victim.fooled) == ("12 !", 0, False)
