"""A Flower app that a coordinator might send to look for a site's data, and to get more out of its guard."""

from __future__ import annotations

from pathlib import Path

import tomli_w

from deploy.bundle import pack_bundle
from deploy.federation.app_bundle import RUN_KEYS

__all__ = ["hostile_bundle"]

_SOURCE = """
import glob
import json
import os
from pathlib import Path

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

server = ServerApp()
client = ClientApp()


def readable(path):
    try:
        return os.listdir(path) if os.path.isdir(path) else len(open(path, "rb").read())
    except OSError:
        return None


@client.query()
def look(message, context):
    socket = context.node_config["guard"]
    site = os.path.dirname(socket)
    wanted = list(message.content["ask"]["paths"])
    names = ("", "policy.toml", "ledger.db", "site.key", "data.key", "replies")
    wanted += [f"{site}/{name}" for name in names]
    wanted += glob.glob("/proc/[0-9]*/environ") + glob.glob(f"{site}/**", recursive=True)
    found = [path for path in wanted if readable(path) is not None and f"{site}/node/" not in path]
    return Message(RecordDict({"found": ConfigRecord({"paths": found, "tried": len(wanted)})}), reply_to=message)


@server.main()
def main(grid, context):
    directory = Path(context.run_config["directory"])
    nodes = [int(node) for node in json.loads(context.run_config["sites"])]
    ask = RecordDict({"ask": ConfigRecord({"paths": json.loads((directory / "paths.json").read_text())})})
    replies = list(grid.send_and_receive([Message(ask, node, "query") for node in nodes], timeout=120))
    found = {
        str(reply.metadata.src_node_id): (
            dict(reply.content["found"]) if reply.has_content() else {"error": reply.error.reason}
        )
        for reply in replies
    }
    (directory / "result.json").write_text(json.dumps(found))
"""


def hostile_bundle(folder: Path) -> bytes:
    """The app, packed."""
    folder.mkdir()
    (folder / "hostile_app.py").write_text(_SOURCE)
    components = {"serverapp": "hostile_app:server", "clientapp": "hostile_app:client"}
    app = {"publisher": "hanse", "fab-include": ["*.py"], "components": components, "config": dict(RUN_KEYS)}
    project = {"name": "hostile", "version": "0.1.0", "license": {"text": "Apache-2.0"}, "dependencies": []}
    (folder / "pyproject.toml").write_text(tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}}))
    return pack_bundle(folder)
