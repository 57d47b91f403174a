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

from client.guard_metrics import GuardMetrics, Kind, Request
from client.guard_site import RealSite
from client.guard_stream import (
    DESCRIBE_METHOD,
    RECEIPT_METHOD,
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
from common.wire import pack_description, pack_refusal, pack_update, unpack_plan
from common.wire_receipt import unpack_receipt

__all__ = ["CANCEL_METHOD", "GuardService"]

CANCEL_METHOD = "Cancel"

_TOLD = (BadInput, BudgetExceeded, PolicyRefusal, RunFailed)
"""What a coordinator is told in words: functions of plan, policy and ledger."""

_log = logging.getLogger("hanse.guard")

_Work = Callable[[RecordDict], RecordDict]


class GuardService:
    """Serves one site, one job at a time."""

    def __init__(self, site: RealSite, turns: Turns, largest: int, metrics: GuardMetrics) -> None:
        """``largest``: most bytes of a message; ``metrics`` count what is asked, for the officer."""
        self._site = site
        self._turns = turns
        self._largest = largest
        self._metrics = metrics

    def handlers(self) -> Any:
        """The service as gRPC takes it."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                DESCRIBE_METHOD: self._streaming("describe", self._describe),
                TRAIN_METHOD: self._streaming("train", self._train),
                RECEIPT_METHOD: self._streaming("receipt", self._take_receipt),
                CANCEL_METHOD: grpc.unary_unary_rpc_method_handler(
                    lambda request, context: BoolValue(value=self._turns.stop()),
                    request_deserializer=lambda content: Empty(),  # whatever it holds says nothing
                    response_serializer=BoolValue.SerializeToString,
                ),
            },
        )

    def _describe(self, content: RecordDict) -> RecordDict:
        plan, _ = unpack_plan(content)
        with self._turns.job(plan.study.federation.round_timeout_seconds):
            return pack_description(self._site.describe(plan))

    def _train(self, content: RecordDict) -> RecordDict:
        plan, weights = unpack_plan(content)
        receipt = unpack_receipt(content)
        with self._turns.job(plan.study.federation.round_timeout_seconds):
            return pack_update(self._site.train(plan, weights, receipt))

    def _take_receipt(self, content: RecordDict) -> RecordDict:
        signed = unpack_receipt(content)
        if signed is None:
            raise BadInput("receipt: the message carries none")
        self._site.take_receipt(signed, signed.opened().run)
        return RecordDict({})

    def _streaming(self, kind: Kind, work: _Work) -> Any:
        def answer(stream: Iterator[bytes], context: Any) -> Iterator[bytes]:
            with self._metrics.request(kind) as request:
                reply = self._answered(stream, context, work, request)
                context.send_initial_metadata(announcement(reply))
                yield from chunks(reply)

        return grpc.stream_stream_rpc_method_handler(answer)

    def _answered(self, stream: Iterator[bytes], context: Any, work: _Work, request: Request) -> bytes:
        """The reply's bytes; ends the call where there is none."""
        try:
            with self._turns.place():
                metadata = [(each.key, each.value) for each in context.invocation_metadata()]
                content = unpack(received(stream, metadata, self._largest))
                return pack(self._reply(content, work, request))
        except Busy as error:
            request.outcome = "busy"
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except BadInput as error:
            request.outcome = "damaged"
            _log.warning("refused: %s", error)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except grpc.RpcError:
            request.outcome = "broken-off"
            _log.warning("refused: stream: broken off by its sender")
            context.abort(grpc.StatusCode.CANCELLED, "stream: broken off")
        raise AssertionError("abort raises")

    def _reply(self, content: RecordDict, work: _Work, request: Request) -> RecordDict:
        try:
            reply = work(content)
        except Busy:
            raise
        except _TOLD as error:
            request.outcome = "refused"
            _log.warning("refused: %s", " | ".join(str(error).splitlines()))
            return pack_refusal(error)
        except HanseError as error:  # the ledger does not verify, or the like: the operator's affair
            request.outcome = "not-ready"
            _log.error("not ready: %s", " | ".join(str(error).splitlines()))
            return pack_refusal(RunFailed("the site is not ready; its operator was told why"))
        except Exception as error:  # noqa: BLE001 - its message may tell batch sizes, labels or texts
            kind = type(error).__name__
            _log.error("failed: %s at %s", kind, _place(error))
            return pack_refusal(RunFailed(f"the site could not finish: {kind} in its own code"))
        request.outcome = "answered"
        return reply


def _place(error: Exception) -> str:
    """Where an error was raised, without what it says."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}, line {frames[-1].lineno}" if frames else "an unknown place"
