"""How a command tells its operator what happens to the processes that it keeps running."""

from __future__ import annotations

import json
import time

from deploy.federation.processes import ProcessEvent

__all__ = ["tell_event"]


def tell_event(event: ProcessEvent, as_json: bool) -> None:
    """Print an event: a line for people, or one JSON object."""
    if as_json:
        facts = {"process": event.child, "event": event.kind, "detail": event.detail, "pid": event.pid}
        print(json.dumps({"time": round(time.time(), 3), **facts}), flush=True)
        return
    print(f"{time.strftime('%H:%M:%S')} {event.child}: {event.kind} {event.detail}".rstrip(), flush=True)
