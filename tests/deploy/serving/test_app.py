"""The service: answers as `hanse predict` gives them, bounds, and what is kept of feedback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from common.errors import BadInput
from common.examples import Columns
from common.sources import load_source
from deploy.inference import SavedModel
from deploy.serving.app import serving_app
from deploy.serving.feedback import FeedbackFile
from deploy.serving.limits import LONGEST_TEXT, MOST_TEXTS, RateLimit
from deploy.serving.served import ServedModel


@pytest.fixture
def service(tiny_model: Path, tmp_path: Path) -> Iterator[TestClient]:
    """The service of a bare model, past its token."""
    app = serving_app(
        ServedModel(tiny_model), FeedbackFile(tmp_path / "feedback.jsonl"), RateLimit(1000, 1000), "token"
    )
    with TestClient(app) as client:
        yield client


def test_predictions_are_those_of_the_model(service: TestClient, tiny_model: Path) -> None:
    texts = ["the good film", "awful", "a song and a play of this food"]
    expected = SavedModel(tiny_model).probabilities(texts)
    answer = service.post("/predict/batch", json={"texts": texts}).json()["predictions"]
    for told, row in zip(answer, expected, strict=True):
        assert list(told["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-5)
        assert told["confidence"] == max(told["probabilities"].values())
        assert told["calibrated"] is False
    assert service.post("/predict", json={"text": texts[0]}).json() == answer[0]
    explained = service.post("/explain", json={"text": texts[0]}).json()
    assert explained["label"] == answer[0]["label"]
    assert [word["text"] for word in explained["words"]] == ["the", "good", "film"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {}),
        ("/predict", {"text": ""}),
        ("/predict", {"text": " \n"}),
        ("/predict", {"text": 5}),
        ("/predict", {"text": None}),
        ("/predict", {"text": "x", "more": 1}),
        ("/predict", {"text": "x" * (LONGEST_TEXT + 1)}),
        ("/predict", []),
        ("/predict/batch", {"texts": []}),
        ("/predict/batch", {"texts": ["x"] * (MOST_TEXTS + 1)}),
        ("/predict/batch", {"texts": ["x", ""]}),
        ("/explain", {"text": ["x"]}),
        ("/feedback", {"text": "x", "label": "unheard of"}),
        ("/feedback", {"text": "x"}),
    ],
)
def test_malformed_requests_get_422_and_no_echo(service: TestClient, path: str, body: Any) -> None:
    answer = service.post(path, json=body)
    assert answer.status_code == 422
    assert "xxxx" not in answer.text


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b'{"text": "\\ud800"}', b'{"text": NaN}', b"[" * 5000]
)
def test_bytes_that_are_no_request_get_4xx(service: TestClient, content: bytes) -> None:
    answer = service.post("/predict", content=content, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500


def test_feedback_becomes_data_of_a_later_study(service: TestClient, tmp_path: Path) -> None:
    text = 'the "good" film, <b>ø</b>\nindeed'
    assert service.post("/feedback", json={"text": text, "label": "positive"}).status_code == 201
    assert service.post("/feedback", json={"text": "dull", "label": "negative"}).status_code == 201
    path = tmp_path / "feedback.jsonl"
    assert path.stat().st_mode & 0o077 == 0
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["label"] for row in rows] == ["positive", "negative"]
    dataset, _ = load_source(str(path), ["negative", "positive"], Columns("text", "label", ""))
    assert [(example.text, example.label) for example in dataset.examples] == [(text, 1), ("dull", 0)]


def test_too_many_texts_a_second_get_429(tiny_model: Path, tmp_path: Path) -> None:
    limit = RateLimit(0.001, 3)
    app = serving_app(ServedModel(tiny_model), FeedbackFile(tmp_path / "f.jsonl"), limit, "token")
    with TestClient(app) as client:
        assert client.post("/predict/batch", json={"texts": ["x"] * 3}).status_code == 200
        refused = client.post("/predict", json={"text": "x"})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


def test_the_bucket_fills_again_and_no_further() -> None:
    now = [0.0]
    limit = RateLimit(2.0, 4.0, clock=lambda: now[0])
    assert [limit.wait(4), limit.wait(1)] == [0.0, 0.5]
    now[0] = 0.5
    assert limit.wait(1) == 0.0
    now[0] = 100.0
    assert limit.wait(5) > 0.0
    assert limit.wait(4) == 0.0


def test_the_api_describes_itself(service: TestClient) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/predict", "/predict/batch", "/explain", "/feedback"}
    assert service.get("/docs").status_code == 404  # it would load scripts from elsewhere


def test_wrong_places_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        ServedModel(tmp_path)
    (tmp_path / "study.toml").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match=r"has no model yet"):
        ServedModel(tmp_path)
    with pytest.raises(BadInput, match=r"name a file in a folder"):
        FeedbackFile(tmp_path)
