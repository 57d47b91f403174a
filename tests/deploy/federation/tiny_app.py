"""A Flower app of a few lines, with which the tests follow messages through a real federation."""

from __future__ import annotations

from pathlib import Path

import tomli_w

from deploy.bundle import pack_bundle
from deploy.federation.app_bundle import RUN_KEYS

__all__ = ["tiny_bundle"]

_SOURCE = """
import json
import time
from pathlib import Path

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

server = ServerApp()
client = ClientApp()


@client.query()
def answer(message, context):
    said = {"guard": context.node_config["guard"], "round": message.content["ask"]["round"]}
    return Message(RecordDict({"said": ConfigRecord(said)}), reply_to=message)


@server.main()
def main(grid, context):
    directory = Path(context.run_config["directory"])

    def event(kind, **facts):
        with (directory / "events.jsonl").open("a") as stream:
            stream.write(json.dumps({"event": kind, "time": time.time(), **facts}) + "\\\\n")

    event("connecting", rounds=ROUNDS)
    while len(nodes := list(grid.get_node_ids())) < 2:
        time.sleep(0.1)
    for number in range(1, ROUNDS + 1):
        event("round-started", round=number)
        ask = RecordDict({"ask": ConfigRecord({"round": number})})
        replies = list(grid.send_and_receive([Message(ask, node, "query") for node in nodes], timeout=120))
        event(
            "round-finished",
            round=number,
            guards=sorted(r.content["said"]["guard"] for r in replies if r.has_content()),
            errors=[r.error.reason for r in replies if r.has_error()],
        )
    (directory / "result.json").write_text("{}")
"""


def tiny_bundle(folder: Path, rounds: int) -> bytes:
    """The app, packed; its server asks every node ``rounds`` times and writes events as Hanse's own does."""
    folder.mkdir()
    source = _SOURCE.replace("ROUNDS", str(rounds)).replace("\\\\n", "\\n")
    (folder / "tiny_federation_app.py").write_text(source)
    tree = {
        "project": {"name": "tiny", "version": "0.1.0", "license": {"text": "Apache-2.0"}, "dependencies": []},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "hanse",
                    "fab-include": ["*.py"],
                    "components": {
                        "serverapp": "tiny_federation_app:server",
                        "clientapp": "tiny_federation_app:client",
                    },
                    "config": dict(RUN_KEYS),
                }
            }
        },
    }
    (folder / "pyproject.toml").write_text(tomli_w.dumps(tree))
    return pack_bundle(folder)
