"""Events as they are written: stragglers, lines of the log, a file that grows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from threading import Event
from typing import Any

from deploy.dashboard.live import event_line, follow_events, read_live
from tests.deploy.report.samples import MARKUP, write_run


def test_who_has_not_answered_is_named(tmp_path: Path) -> None:
    live = read_live(write_run(tmp_path / "one", ends=False, rounds=4))
    assert (live.planned, live.finished, live.round) == (4, 3, 4)
    assert live.replied == ("north",)
    assert live.waiting == ("south",)
    assert live.log[-1].endswith("site replied 4, north")


def test_nobody_is_waited_for_after_the_end(tmp_path: Path) -> None:
    live = read_live(write_run(tmp_path / "one"))
    assert (live.finished, live.round, live.waiting) == (3, None, ())


def test_lines_keep_what_they_hold() -> None:
    assert MARKUP in event_line({"event": "site-replied", "site": MARKUP, "round": 1, "time": 0.0})


def test_events_are_followed_from_now_on_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"event": "before"}) + "\n", encoding="utf-8")

    async def follow() -> list[dict[str, Any]]:
        ended, found = Event(), []
        following = follow_events(path, ended)

        async def write() -> None:
            await asyncio.sleep(0.05)
            for piece in ('{"event": "o', 'ne"}\nnonsense\n{"event"', ': "two"}\n'):
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(piece)
                await asyncio.sleep(0.3)

        writing = asyncio.create_task(write())
        async for event in following:
            found.append(event)
            if len(found) == 2:
                ended.set()
        await writing
        return found

    assert asyncio.run(asyncio.wait_for(follow(), 30)) == [{"event": "one"}, {"event": "two"}]
