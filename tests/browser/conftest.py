"""Real Chromium through Playwright; pages are judged by what the browser saw."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZES = ((1280, 900), (390, 844))
"""Wide and narrow, CSS pixels."""


def _missing(reason: str) -> NoReturn:
    if os.environ.get("HANSE_TEST_BROWSER_REQUIRED") == "1":
        pytest.fail(f"HANSE_TEST_BROWSER_REQUIRED=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, for this package only: Playwright keeps an event loop running meanwhile."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        _missing("there is no chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed: pip install playwright axe-playwright-python")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Seen:
    """A page, and what the browser saw of it."""

    page: Page
    console: list[str] = field(default_factory=list)
    """Messages of the page, and its uncaught errors."""
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def assert_sound(self, address: str) -> None:
        """Nothing on the console, nothing asked of another machine, nothing run, nothing wider than the window."""
        assert self.console == []
        assert self.dialogs == []
        away = [asked for asked in self.requests if not asked.startswith((address, "data:"))]
        assert away == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    def assert_accessible(self) -> None:
        """axe-core finds no serious or critical fault."""
        from axe_playwright_python.sync_playwright import Axe

        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        grave = [
            (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")
        ]
        assert grave == []


Watch = Callable[..., Seen]


@pytest.fixture
def watch(chromium: Browser) -> Iterator[Watch]:
    """A function that opens a window; ``dark`` for the dark setting."""
    contexts = []

    def opened(size: tuple[int, int] = SIZES[0], dark: bool = False) -> Seen:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
        )
        context.set_default_timeout(60_000)
        contexts.append(context)
        seen = Seen(context.new_page())
        seen.page.on("console", lambda message: seen.console.append(message.text))
        seen.page.on("pageerror", lambda error: seen.console.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))

        def refuse(dialog: Any) -> None:
            seen.dialogs.append(dialog.message)
            dialog.dismiss()

        seen.page.on("dialog", refuse)
        return seen

    yield opened
    for context in contexts:
        context.close()
