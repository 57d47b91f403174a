"""The Flower client of a site: a thin relay between messages and the site behind it."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.site import Site
from client.virtual import virtual_site
from common.errors import HanseError, RunFailed
from common.weights import Weights
from common.wire import RoundPlan, pack_description, pack_refusal, pack_update, unpack_plan

__all__ = ["app"]

app = ClientApp()


@app.query()
def describe(message: Message, context: Context) -> Message:
    """Answer who this site is, if it agrees to the study in the message."""
    return _answered(message, context, lambda site, plan, weights: pack_description(site.describe(plan)))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take a round's local steps and answer with the update, or with the reason for none."""
    return _answered(message, context, lambda site, plan, weights: pack_update(site.train(plan, weights)))


def _answered(
    message: Message, context: Context, work: Callable[[Site, RoundPlan, Weights], RecordDict]
) -> Message:
    try:
        plan, weights = unpack_plan(message.content)
        content = work(virtual_site(plan.study, int(context.node_config["partition-id"])), plan, weights)
    except HanseError as error:
        content = pack_refusal(error)
    except Exception as error:  # noqa: BLE001 - its message may tell batch sizes or labels, and Flower would send it (P15)
        content = pack_refusal(RunFailed(f"the site could not finish: {type(error).__name__} in its own code"))
    return Message(content, reply_to=message)
