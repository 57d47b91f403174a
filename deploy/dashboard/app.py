"""The live page as a web application: every page is made here, the script only asks for it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Annotated, Any
from urllib.parse import urlencode

import jinja2
from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response, StreamingResponse

from common.errors import HanseError
from deploy.dashboard.live import event_line, follow_events, read_live
from deploy.dashboard.officer import LARGEST_FORECAST, read_officer
from deploy.dashboard.runs import RunFolder
from deploy.pages.serving import STYLE
from deploy.report import figures
from deploy.report.comparison import compared
from deploy.report.page import TEMPLATES, run_view
from deploy.report.reading import read_run

__all__ = ["DashboardSettings", "dashboard_app"]

_HERE = Path(__file__).parent
_FILES = {"dashboard.js": _HERE / "static" / "dashboard.js", "style.css": STYLE}
_TYPES = {".js": "text/javascript", ".css": "text/css"}
_MOST_COMPARED = 40
_LIST_SECONDS = 1.0


@dataclass(frozen=True)
class DashboardSettings:
    """What the page shows; at least one of the three."""

    token: str
    runs: Path | None = None
    site: Path | None = None
    """A site's own folder, for its officer."""
    forecast: Path | None = None
    """Study that the officer's slider forecasts; the default one where None."""
    federation: Path | None = None
    """A coordinator's folder."""


def dashboard_app(settings: DashboardSettings, ended: Event) -> FastAPI:
    """The application, not yet behind its token (see ``deploy.pages.access``).

    Args:
        settings: what to show.
        ended: streams of events end when it is set.

    Raises:
        BadInput: the folder of runs is not there.
    """
    app = FastAPI(title="Hanse", docs_url=None, redoc_url=None, openapi_url=None)
    pages = _Pages(settings)
    app.add_exception_handler(HanseError, _refused)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        path = _FILES.get(name)
        if path is None:
            return PlainTextResponse("no such file\n", 404)
        return FileResponse(path, media_type=_TYPES[path.suffix])

    if settings.runs is not None:
        _add_runs(app, pages, RunFolder(settings.runs), ended)
    if settings.site is not None:
        _add_officer(app, pages, settings.site, settings.forecast)
    if settings.federation is not None:
        _add_federation(app, pages, settings.federation)
    return app


class _Pages:
    """Makes pages whose links carry the token."""

    def __init__(self, settings: DashboardSettings) -> None:
        self._token = settings.token
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([_HERE / "templates", TEMPLATES]),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {"link": self.link, "token": self._token, "menu": _menu(settings)}

    def link(self, path: str, **query: str | Sequence[str]) -> str:
        """An address of this page, with the token."""
        return f"{path}?{urlencode({**query, 'token': self._token}, doseq=True)}"

    def page(self, template: str, **values: Any) -> HTMLResponse:
        """A page from its template."""
        return HTMLResponse(self._environment.get_template(template).render(**values))


def _menu(settings: DashboardSettings) -> list[tuple[str, str]]:
    first = "/" if settings.runs is not None else None
    shown = [(first, "Runs"), ("/site" if settings.site else None, "This site's budget")]
    shown.append(("/federation" if settings.federation else None, "Federation"))
    return [(path, title) for path, title in shown if path]


def _refused(_: Request, error: Exception) -> PlainTextResponse:
    return PlainTextResponse(f"{error}\n", 404)


def _add_runs(app: FastAPI, pages: _Pages, folder: RunFolder, ended: Event) -> None:
    @app.get("/")
    def runs() -> HTMLResponse:
        return pages.page("runs.html", rows=folder.rows(), folder=folder.path.resolve().name)

    @app.get("/part/runs")
    def runs_part() -> HTMLResponse:
        return pages.page("runs_part.html", rows=folder.rows())

    @app.get("/run")
    def run(name: str) -> HTMLResponse:
        return pages.page("run_page.html", name=name, **_run_values(folder.find(name)))

    @app.get("/part/run")
    def run_part(name: str) -> HTMLResponse:
        return pages.page("run_part.html", name=name, **_run_values(folder.find(name)))

    @app.get("/compare")
    def compare(run: Annotated[list[str] | None, Query(max_length=_MOST_COMPARED)] = None) -> HTMLResponse:
        chosen = [read_run(folder.find(name), ledgers=False) for name in dict.fromkeys(run or [])]
        keys, rows = compared(chosen)
        charts = figures.by_round(chosen) if len(chosen) > 1 else []
        utility = figures.privacy_utility(chosen)
        return pages.page("compare.html", keys=keys, rows=rows, progress=charts, utility=utility)

    @app.get("/events")
    async def events(name: str = "") -> StreamingResponse:
        path = folder.find(name) / "events.jsonl" if name else None
        source = _list_events(folder, ended) if path is None else _run_events(path, ended)
        return StreamingResponse(source, media_type="text/event-stream")


def _add_officer(app: FastAPI, pages: _Pages, site: Path, study: Path | None) -> None:
    @app.get("/site")
    def officer(epsilon: float | None = None) -> HTMLResponse:
        view = read_officer(site, study, epsilon)
        return pages.page("site.html", view=view, largest=LARGEST_FORECAST)

    @app.get("/part/site")
    def officer_part(epsilon: float | None = None) -> HTMLResponse:
        return pages.page("site_part.html", view=read_officer(site, study, epsilon))


def _add_federation(app: FastAPI, pages: _Pages, folder: Path) -> None:
    from deploy.dashboard.federation import read_federation

    @app.get("/federation")
    def federation() -> HTMLResponse:
        return pages.page("federation.html", view=read_federation(folder))

    @app.get("/part/federation")
    def federation_part() -> HTMLResponse:
        return pages.page("federation_part.html", view=read_federation(folder))


def _run_values(directory: Path) -> dict[str, Any]:
    run = read_run(directory, ledgers=False)
    return {"view": run_view(run), "live": read_live(directory)}


async def _run_events(path: Path, ended: Event) -> AsyncIterator[str]:
    yield ": following\n\n"
    async for event in follow_events(path, ended):
        told = {"kind": str(event.get("event", "")), "line": event_line(event)}
        yield f"data: {json.dumps(told)}\n\n"


async def _list_events(folder: RunFolder, ended: Event) -> AsyncIterator[str]:
    before = await asyncio.to_thread(folder.signature)
    yield ": following\n\n"
    while not ended.is_set():
        await asyncio.sleep(_LIST_SECONDS)
        now = await asyncio.to_thread(folder.signature)
        if now != before:
            before = now
            yield f"data: {json.dumps({'kind': 'list', 'line': 'The list of runs has changed.'})}\n\n"
