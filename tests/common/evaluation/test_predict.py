"""One forward pass: rows come back in order, and the model as it was."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadInput, RunFailed
from common.evaluation import evaluate_logits, predict_logits
from common.text import Batch

FEATURES = torch.randn(23, 4, generator=torch.Generator().manual_seed(1))


class Classifier(torch.nn.Module):
    """A linear classifier that answers as transformers' models do; remembers how it was called."""

    def __init__(self, labels=3):
        super().__init__()
        torch.manual_seed(0)
        self.dropout = torch.nn.Dropout(0.5)
        self.frozen = torch.nn.Dropout(0.5).eval()
        self.linear = torch.nn.Linear(4, labels)
        self.calls = []

    def forward(self, features):
        logits = self.linear(self.frozen(self.dropout(features)))
        self.calls.append((len(features), self.training, torch.is_grad_enabled(), logits.dtype))
        return SimpleNamespace(logits=logits)


def batch(rows):
    rows = np.asarray(rows, dtype=np.int64)
    return Batch(
        indexes=rows, inputs={"features": FEATURES[rows]}, labels=torch.zeros(len(rows), dtype=torch.long)
    )


def expected(model):
    with torch.no_grad():
        return model.linear(FEATURES).numpy()


class TestPredictLogits:
    """The forward pass over batches."""

    @settings(deadline=None)
    @given(st.permutations(range(23)), st.integers(1, 23))
    def test_row_order_is_restored(self, order, size):
        model = Classifier()
        batches = [batch(order[start : start + size]) for start in range(0, 23, size)]
        logits = predict_logits(model, iter(batches), "cpu")
        assert logits.shape == (23, 3)
        assert logits.dtype == np.float32
        assert np.allclose(logits, expected(model), rtol=0, atol=1e-6)

    def test_every_row_is_computed_once_in_evaluation_mode_without_gradients(self):
        model = Classifier().train()
        predict_logits(model, [batch(range(12, 23)), batch(range(12))], torch.device("cpu"))
        assert model.calls == [(11, False, False, torch.float32), (12, False, False, torch.float32)]

    def test_every_module_gets_its_own_mode_back(self):
        model = Classifier().train()
        model.frozen.eval()
        predict_logits(model, [batch(range(23))], "cpu")
        assert model.training
        assert model.dropout.training
        assert not model.frozen.training

    def test_a_model_in_evaluation_mode_stays_there(self):
        model = Classifier().eval()
        predict_logits(model, [batch(range(23))], "cpu")
        assert not any(module.training for module in model.modules())

    def test_the_mode_comes_back_after_an_error(self):
        model = Classifier().train()
        with pytest.raises(TypeError):
            predict_logits(model, [SimpleNamespace(indexes=[0], inputs={"wrong": FEATURES[:1]})], "cpu")
        assert model.training

    def test_training_goes_on_afterwards(self):
        model = Classifier().train()
        predict_logits(model, [batch(range(23))], "cpu")
        model(FEATURES).logits.sum().backward()
        assert model.linear.weight.grad is not None

    def test_bfloat16_is_close_and_comes_back_as_float32(self):
        model = Classifier()
        logits = predict_logits(model, [batch(range(23))], "cpu", "bfloat16")
        assert model.calls[0][3] == torch.bfloat16
        assert logits.dtype == np.float32
        assert model.linear.weight.dtype == torch.float32
        # bfloat16 keeps 8 bits: a relative 2**-8 on each of 4 products and their sum.
        assert np.allclose(logits, expected(model), rtol=0, atol=0.05)
        assert not np.array_equal(logits, expected(model))

    def test_nan_passes_through_to_the_score_which_reports_it(self):
        model = Classifier()
        torch.nn.init.constant_(model.linear.bias, float("nan"))
        logits = predict_logits(model, [batch(range(23))], "cpu")
        with pytest.raises(RunFailed, match="23 of 23 rows"):
            evaluate_logits(logits, [0] * 23)

    def test_no_batches(self):
        with pytest.raises(BadInput, match="no examples to predict"):
            predict_logits(Classifier(), [], "cpu")

    @pytest.mark.parametrize("rows", [[0, 1, 1], [1, 2], [0, 2]])
    def test_rows_that_are_missing_or_come_twice(self, rows):
        with pytest.raises(BadInput, match="exactly once"):
            predict_logits(Classifier(), [batch(rows)], "cpu")

    def test_an_unknown_precision(self):
        with pytest.raises(BadInput, match="precision = 'float16': must be float32 or bfloat16"):
            predict_logits(Classifier(), [batch(range(23))], "cpu", "float16")

    def test_logits_of_another_shape(self):
        class PerToken(torch.nn.Module):
            def forward(self, features):
                return SimpleNamespace(logits=features[:, :, None])

        with pytest.raises(RunFailed, match=r"logits of shape \(2, 4, 1\) for 2 examples"):
            predict_logits(PerToken(), [batch([0, 1])], "cpu")
