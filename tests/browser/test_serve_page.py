"""The page of `hanse serve` in Chromium: a text, its prediction and words, and what is kept of feedback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.serving.app import serving_app
from deploy.serving.feedback import FeedbackFile
from deploy.serving.limits import RateLimit
from deploy.serving.served import ServedModel
from tests.browser.conftest import SIZES, Watch
from tests.deploy.pages.served import TOKEN, served
from tests.deploy.report.samples import MARKUP
from tests.deploy.serving.conftest import tiny_model

__all__ = ["tiny_model"]


@pytest.fixture
def address(tiny_model: Path, tmp_path: Path) -> Iterator[str]:
    """The served tiny model."""
    kept = FeedbackFile(tmp_path / "feedback.jsonl")
    with served(serving_app(ServedModel(tiny_model), kept, RateLimit(1000, 1000), TOKEN)) as base:
        yield base


@pytest.mark.parametrize("size", SIZES)
def test_a_person_asks_sees_and_tells(watch: Watch, address: str, tmp_path: Path, size: tuple[int, int]) -> None:
    seen = watch(size, dark=size == SIZES[1])
    page = seen.page
    page.goto(f"{address}/?token={TOKEN}")
    seen.assert_accessible()
    text = f"the good film {MARKUP}"
    page.get_by_label("Text").fill(text)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#answer").wait_for()
    assert page.evaluate("document.activeElement.id") == "answer-title"  # a screen reader goes on there
    assert page.locator("#label").inner_text() in ("negative", "positive")
    answer = page.request.post(
        f"{address}/explain", headers={"Authorization": f"Bearer {TOKEN}"}, data={"text": text}
    ).json()
    assert page.locator("#confidence").inner_text() == f"{100 * answer['confidence']:.1f} %"
    assert page.locator("#words").inner_text().split() == text.split()
    assert "not calibrated" in page.locator("#answer").inner_text()
    page.get_by_label("The right label is").select_option("negative")
    page.get_by_role("button", name="Keep this text").click()
    page.locator("#said", has_text="Kept in feedback.jsonl.").wait_for()
    row = json.loads((tmp_path / "feedback.jsonl").read_text(encoding="utf-8"))
    assert (row["text"], row["label"]) == (text, "negative")
    seen.assert_sound(address)
    seen.assert_accessible()


def test_a_refusal_is_said(watch: Watch, address: str) -> None:
    page = watch().page
    page.goto(f"{address}/?token={TOKEN}")
    page.get_by_label("Text").fill("   ")
    page.get_by_role("button", name="Predict").click()
    page.locator("#said", has_text="should match").wait_for()
