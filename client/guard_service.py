"""The guard's methods: streams in, the site asked, streams out (``common/guard.proto``).

Whatever arrives, the service goes on: a stream that is no message ends in one log line and INVALID_ARGUMENT, a
refusal is an ordinary reply, and an unforeseen error leaves as its type alone (PRIVACY P15).
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]  # ships no types
from flwr.app import RecordDict
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]  # ships no types
from google.protobuf.wrappers_pb2 import BoolValue  # type: ignore[import-untyped]  # ships no types

from client.guard_site import RealSite
from client.guard_stream import (
    DESCRIBE_METHOD,
    SERVICE,
    TRAIN_METHOD,
    announcement,
    chunks,
    pack,
    received,
    unpack,
)
from client.guard_turn import Busy, Turns
from common.errors import BadInput, BudgetExceeded, HanseError, PolicyRefusal, RunFailed
from common.weights import Weights
from common.wire import RoundPlan, pack_description, pack_refusal, pack_update, unpack_plan

__all__ = ["CANCEL_METHOD", "GuardService"]

CANCEL_METHOD = "Cancel"

_TOLD = (BadInput, BudgetExceeded, PolicyRefusal, RunFailed)
"""What a coordinator is told in words: functions of plan, policy and ledger."""

_log = logging.getLogger("hanse.guard")

_Work = Callable[[RoundPlan, Weights], RecordDict]


class GuardService:
    """Serves one site, one job at a time."""

    def __init__(self, site: RealSite, turns: Turns, largest: int) -> None:
        """``largest``: most bytes of a message."""
        self._site = site
        self._turns = turns
        self._largest = largest

    def handlers(self) -> Any:
        """The service as gRPC takes it."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                DESCRIBE_METHOD: self._streaming(lambda plan, _: pack_description(self._site.describe(plan))),
                TRAIN_METHOD: self._streaming(lambda plan, weights: pack_update(self._site.train(plan, weights))),
                CANCEL_METHOD: grpc.unary_unary_rpc_method_handler(
                    lambda request, context: BoolValue(value=self._turns.stop()),
                    request_deserializer=Empty.FromString,
                    response_serializer=BoolValue.SerializeToString,
                ),
            },
        )

    def _streaming(self, work: _Work) -> Any:
        def answer(stream: Iterator[bytes], context: Any) -> Iterator[bytes]:
            try:
                with self._turns.place():
                    metadata = [(each.key, each.value) for each in context.invocation_metadata()]
                    content = unpack(received(stream, metadata, self._largest))
                    reply = pack(self._reply(content, work))
            except Busy as error:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            except BadInput as error:
                _log.warning("refused: %s", error)
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except grpc.RpcError:
                _log.warning("refused: stream: broken off by its sender")
                context.abort(grpc.StatusCode.CANCELLED, "stream: broken off")
            context.send_initial_metadata(announcement(reply))
            yield from chunks(reply)

        return grpc.stream_stream_rpc_method_handler(answer)

    def _reply(self, content: RecordDict, work: _Work) -> RecordDict:
        try:
            plan, weights = unpack_plan(content)
            with self._turns.job(plan.study.federation.round_timeout_seconds):
                return work(plan, weights)
        except Busy:
            raise
        except _TOLD as error:
            _log.warning("refused: %s", " | ".join(str(error).splitlines()))
            return pack_refusal(error)
        except HanseError as error:  # the ledger does not verify, or the like: the operator's affair
            _log.error("not ready: %s", " | ".join(str(error).splitlines()))
            return pack_refusal(RunFailed("the site is not ready; its operator was told why"))
        except Exception as error:  # noqa: BLE001 - its message may tell batch sizes, labels or texts
            kind = type(error).__name__
            _log.error("failed: %s at %s", kind, _place(error))
            return pack_refusal(RunFailed(f"the site could not finish: {kind} in its own code"))


def _place(error: Exception) -> str:
    """Where an error was raised, without what it says."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}, line {frames[-1].lineno}" if frames else "an unknown place"
