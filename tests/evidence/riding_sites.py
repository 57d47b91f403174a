"""A ClientApp whose sites are the real virtual ones, except that a site called ``rider...`` sends no change."""

from __future__ import annotations

from dataclasses import replace

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.app import app as real_app
from client.virtual import virtual_site
from common.errors import HanseError
from common.wire import pack_refusal, pack_update, unpack_plan

__all__ = ["app"]

app = ClientApp()


@app.query()
def describe(message: Message, context: Context) -> Message:
    """As the real site does."""
    return real_app(message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """As the real site does; a rider pays its budget, and gives back the weights that it was given."""
    plan, weights = unpack_plan(message.content)
    try:
        update = virtual_site(plan.study, int(context.node_config["partition-id"])).train(plan, weights)
    except HanseError as error:
        return Message(pack_refusal(error), reply_to=message)
    if update.site.startswith("rider"):
        update = replace(update, weights=weights)
    return Message(pack_update(update), reply_to=message)
