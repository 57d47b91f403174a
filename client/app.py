"""The Flower client of a site: a thin relay between messages and the site behind it.

In a deployment (``node_config`` holds ``guard``, the path of a socket) it passes bytes to the institution's own
guard and the answer back, and loads neither torch nor a model. In a simulation (``partition-id``) the site is a
virtual one in this process.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.guard_relay import ask_guard
from client.guard_stream import DESCRIBE_METHOD, RECEIPT_METHOD, TRAIN_METHOD

__all__ = ["app"]

app = ClientApp()


@app.query()
def describe(message: Message, context: Context) -> Message:
    """Answer who this site is, if it agrees to the study in the message."""
    return Message(_answer(DESCRIBE_METHOD, message, context), reply_to=message)


@app.query("receipt")
def take_receipt(message: Message, context: Context) -> Message:
    """Hand the guard what the coordinator has witnessed; a virtual site has no use for it."""
    if "guard" not in context.node_config:
        return Message(RecordDict({}), reply_to=message)
    return Message(_answer(RECEIPT_METHOD, message, context), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take a round's local steps and answer with the update, or with the reason for none."""
    return Message(_answer(TRAIN_METHOD, message, context), reply_to=message)


def _answer(method: str, message: Message, context: Context) -> RecordDict:
    if (guard := context.node_config.get("guard")) is not None:
        return ask_guard(Path(str(guard)), method, message.content, timeout=message.metadata.ttl)
    return _virtual_answer(method, message.content, int(context.node_config["partition-id"]))


def _virtual_answer(method: str, content: RecordDict, partition: int) -> RecordDict:
    """What the virtual site at a position of the simulation says; it lives in this process."""
    from client.virtual import virtual_site  # the model's libraries, for a simulation alone
    from common.errors import HanseError, RunFailed
    from common.wire import pack_description, pack_refusal, pack_update, unpack_plan

    try:
        plan, weights = unpack_plan(content)
        site = virtual_site(plan.study, partition)
        if method == DESCRIBE_METHOD:
            return pack_description(site.describe(plan))
        return pack_update(site.train(plan, weights))
    except HanseError as error:
        return pack_refusal(error)
    except Exception as error:  # noqa: BLE001 - its message may tell batch sizes or labels, and Flower would send it (P15)
        return pack_refusal(RunFailed(f"the site could not finish: {type(error).__name__} in its own code"))
