"""Measurements of the pages and of `hanse serve`, by name (see ``tests/evidence/measurements.py``)."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["MEASUREMENTS"]

ROOT = Path(__file__).resolve().parents[2]
_CLIENTS = 32
_TOKEN = "measured"
_TEXTS = int(os.environ.get("HANSE_EVIDENCE_TEXTS", "1280"))
_TURNS = int(os.environ.get("HANSE_EVIDENCE_TURNS", "5"))


def _model_and_texts(folder: Path) -> tuple[Path, list[str]]:
    """The default study's model as it is before training, and its test texts: speed does not depend on weights."""
    from common.base_model import resolve_base
    from common.model import build_classifier
    from common.text import load_tokenizer
    from common.virtual_sites import virtual_sites
    from deploy.default_study import load_study

    study = load_study(None, [])
    build_classifier(study).save(folder / "model")
    load_tokenizer(resolve_base(study.model.base).path).save_pretrained(str(folder / "model"))
    texts = [example.text for example in virtual_sites(study).test]
    return folder / "model", (texts * (_TEXTS // len(texts) + 1))[:_TEXTS]


async def _ask(port: int, bodies: Sequence[bytes], seconds: list[float]) -> None:
    """One client over one connection: the next text after the answer to the last."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body in bodies:
        head = (
            f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {_TOKEN}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        started = time.perf_counter()
        writer.write(head.encode() + body)
        answered = await reader.readuntil(b"\r\n\r\n")
        if not answered.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the service answered {answered[:40]!r}")
        length = next(line for line in answered.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))
        seconds.append(time.perf_counter() - started)
    writer.close()


async def _all_ask(port: int, texts: Sequence[str]) -> tuple[float, list[float]]:
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    seconds: list[float] = []
    started = time.perf_counter()
    await asyncio.gather(*(_ask(port, bodies[first::_CLIENTS], seconds) for first in range(_CLIENTS)))
    return len(texts) / (time.perf_counter() - started), seconds


class _Bare:
    """The bare loop in a process of its own, set up as the command sets itself up."""

    def __init__(self, model: Path, texts: Path) -> None:
        command = [sys.executable, "-m", "tests.evidence.page_measurements", str(model), str(texts)]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
        self._child = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def rate(self) -> float:
        """Go over the texts once more: texts a second."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write("go\n")
        self._child.stdin.flush()
        return float(self._child.stdout.readline())

    def stop(self) -> None:
        """End the process."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(timeout=20)


def _bare_loop(model: Path, texts: Sequence[str]) -> None:
    """For each line of standard input go over the texts in batches of 32 and print the rate."""
    from deploy.inference import SavedModel

    saved = SavedModel(model)
    for _ in sys.stdin:
        started = time.perf_counter()
        for first in range(0, len(texts), _CLIENTS):
            saved.probabilities(texts[first : first + _CLIENTS])
        print(len(texts) / (time.perf_counter() - started), flush=True)


def _served(model: Path) -> tuple[subprocess.Popen[str], int]:
    """The real command in a process of its own, and its port."""
    command = [sys.executable, "-m", "deploy.cli", "serve", str(model), "--port", "0", "--rate", "1000000"]
    environment = os.environ | {"HANSE_SERVE_TOKEN": _TOKEN, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    address = child.stdout.readline()
    return child, int(address.partition("127.0.0.1:")[2].partition("/")[0])


def serve_throughput() -> dict[str, Any]:
    """Texts a second of `hanse serve` under 32 clients of one text each, against a bare loop in batches of 32.

    Both take the same texts in the same order on the same machine, by turns, so that what else the machine does
    meets both; the clients run there too. The ratio is the median over turns of served over bare.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, texts = _model_and_texts(Path(name))
        listed = Path(name) / "texts.json"
        listed.write_text(json.dumps(texts), encoding="utf-8")
        loop = _Bare(folder, listed)
        child, port = _served(folder)
        try:
            asyncio.run(_all_ask(port, texts[:128]))
            loop.rate()
            bare, served, seconds = [], [], []
            for _ in range(_TURNS):
                bare.append(loop.rate())
                rate, each = asyncio.run(_all_ask(port, texts))
                served.append(rate)
                seconds += each
        finally:
            loop.stop()
            child.terminate()
            child.wait(timeout=20)
    ratios = [one / other for one, other in zip(served, bare, strict=True)]
    return {
        "clients": _CLIENTS,
        "texts": _TEXTS,
        "turns": _TURNS,
        "bare_texts_per_second": [round(rate, 1) for rate in bare],
        "served_texts_per_second": [round(rate, 1) for rate in served],
        "ratio_by_turn": [round(ratio, 3) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 3),
        "latency_p50_seconds": round(statistics.median(seconds), 4),
        "latency_p99_seconds": round(statistics.quantiles(seconds, n=100)[98], 4),
    }


def pages() -> dict[str, Any]:
    """Size and loading time of a report of 50 rounds and 20 sites, and of a list of 200 runs, in Chromium."""
    import shutil
    from threading import Event

    from playwright.sync_api import sync_playwright

    from deploy.dashboard.app import DashboardSettings, dashboard_app
    from deploy.report.page import write_report
    from tests.deploy.pages.served import TOKEN, served
    from tests.deploy.report.samples import write_run

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        sites = tuple(f"site-{number:02d}" for number in range(20))
        long = write_run(folder / "long", sites=sites, rounds=50)
        write_report([long], long / "report.html")
        first = write_run(folder / "runs" / "run-000")
        for number in range(1, 200):
            shutil.copytree(first, folder / "runs" / f"run-{number:03d}")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = [_loading(browser, (long / "report.html").as_uri()) for _ in range(5)]
        ended = Event()
        with served(dashboard_app(DashboardSettings(TOKEN, folder / "runs"), ended), ended) as address:
            listed = [_loading(browser, f"{address}/?token={TOKEN}") for _ in range(5)]
        size = (long / "report.html").stat().st_size
        browser.close()
    return {
        "report_bytes": size,
        "report_opens_seconds": [round(each, 3) for each in opened],
        "list_of_200_opens_seconds": [round(each, 3) for each in listed],
    }


def _loading(browser: Any, address: str) -> float:
    page = browser.new_page()
    started = time.perf_counter()
    page.goto(address, wait_until="load")
    seconds = time.perf_counter() - started
    page.close()
    return seconds


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "serve-throughput": serve_throughput,
    "pages": pages,
}

if __name__ == "__main__":
    _bare_loop(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
