"""The operator's side of Flower's Control interface: nodes and runs, through Flower's own client."""

from __future__ import annotations

import hashlib
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from common.errors import RunFailed
from common.study import Study
from deploy.federation.coordinator_directory import CoordinatorDirectory
from deploy.federation.node_keys import NodePublicKey

if TYPE_CHECKING:
    import httpx
    from flwr.supercore.control import ControlHttpClient

__all__ = ["Control", "FlowerNode", "FlowerRun", "connect", "is_answering"]

Answer = TypeVar("Answer")

_HEALTH_SECONDS = 2.0
_PATIENCE_SECONDS = 60.0
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class FlowerNode:
    """A SuperNode as the SuperLink sees it."""

    node_id: int
    name: str
    pem: bytes
    """Its public key."""
    status: Literal["registered", "online", "offline", "unregistered"]
    """``registered``: it has never connected. A killed node counts as online for up to a minute."""
    last_activated: datetime | None
    last_deactivated: datetime | None
    """When it left, or when the SuperLink noticed that it had."""


@dataclass(frozen=True)
class FlowerRun:
    """A run as the SuperLink sees it."""

    run_id: int
    directory: Path
    status: str
    """``pending``, ``starting``, ``running``; once over: ``completed``, ``failed`` or ``stopped``."""
    details: str
    """Why it failed, in the ServerApp's words."""
    submitted: datetime | None
    finished: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether no process works on it any more."""
        return self.status not in ("pending", "starting", "running")


class Control:
    """Asks a running coordinator; make one by :func:`connect`."""

    def __init__(self, client: ControlHttpClient, directory: CoordinatorDirectory) -> None:
        """Ask through ``client``; ``directory`` names the coordinator in errors."""
        self._client = client
        self._directory = directory

    def nodes(self) -> list[FlowerNode]:
        """Every node that was ever registered."""
        from flwr.proto.control_pb2 import ListNodesRequest

        answer = self._ask(lambda: self._client.ListNodes(ListNodesRequest()), patience=_PATIENCE_SECONDS)
        return [
            FlowerNode(
                node_id=node.node_id,
                name=node.name,
                pem=node.public_key,
                status=node.status,
                last_activated=_moment(node.last_activated_at),
                last_deactivated=_moment(node.last_deactivated_at),
            )
            for node in answer.nodes_info
        ]

    def register(self, name: str, key: NodePublicKey) -> int:
        """Let a node with this key in; returns Flower's id of it. ``RunFailed`` if the key was ever registered."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        request = RegisterNodeRequest(public_key=key.pem, name=name)
        return int(self._ask(lambda: self._client.RegisterNode(request)).node_id)

    def unregister(self, node_id: int) -> None:
        """Shut a node out. Flower never takes its key again."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest

        self._ask(lambda: self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id)))

    def runs(self, most: int = 100) -> list[FlowerRun]:
        """The newest runs, newest first."""
        from flwr.proto.control_pb2 import ListRunsRequest

        answer = self._ask(lambda: self._client.ListRuns(ListRunsRequest(limit=most)), patience=_PATIENCE_SECONDS)
        runs = [_run(run) for run in answer.run_dict.values()]
        return sorted(runs, key=lambda run: run.submitted.timestamp() if run.submitted else 0.0, reverse=True)

    def submit(self, bundle: bytes, study: Study, run_directory: Path, resume: bool) -> int:
        """Start a run of the bundle's apps; returns Flower's id of it.

        Args:
            bundle: from :func:`deploy.federation.app_bundle.deployed_bundle`.
            study: sent to the ServerApp as canonical JSON; the sites get it in their plans.
            run_directory: where the ServerApp writes, on this machine.
            resume: whether it goes on from the checkpoint there.
        """
        from flwr.common.serde import fab_to_proto, user_config_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.supercore.fab import Fab

        request = StartRunRequest(
            fab=fab_to_proto(Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})),
            override_config=user_config_to_proto(
                {
                    "study": study.to_json(),
                    "directory": str(run_directory),
                    "resume": resume,
                    "coordinator": str(self._directory.path),
                    "sites": json.dumps(self._registered()),
                }
            ),
        )
        answer = self._ask(lambda: self._client.StartRun(request))
        if not answer.HasField("run_id"):
            raise RunFailed(f"the coordinator did not take the run; see {self._directory.logs}")
        return int(answer.run_id)

    def _registered(self) -> dict[str, str]:
        """Name of each site that may take part, by its node's id."""
        sites = self._directory.registry.current()
        return {str(site.node_id): site.name for site in sites if site.node_id is not None}

    def stop(self, run_id: int) -> bool:
        """Stop a run; returns whether it was still going."""
        from flwr.proto.control_pb2 import StopRunRequest

        return bool(self._ask(lambda: self._client.StopRun(StopRunRequest(run_id=run_id))).success)

    def _ask(self, question: Callable[[], Answer], patience: float = 0.0) -> Answer:
        """Flower's answer.

        ``patience``: seconds in which a question that changes nothing is asked again after an error of the
        server's own. While a large model is written, its database can be locked for longer than Flower waits.
        """
        import httpx
        from flwr.supercore.error import FlowerError

        deadline = time.monotonic() + patience
        while True:
            try:
                return question()
            except httpx.HTTPStatusError as error:
                if error.response.is_server_error and time.monotonic() < deadline:
                    time.sleep(_RETRY_SECONDS)
                    continue
                said = FlowerError.from_json(error.response.text)
                reason = said.message if said else f"HTTP {error.response.status_code}"
                if said and said.public_details:
                    reason += f" ({said.public_details})"
                raise RunFailed(f"the coordinator refused: {reason}") from error
            except httpx.TransportError as error:
                raise RunFailed(_no_answer(self._directory)) from error


@contextmanager
def connect(directory: CoordinatorDirectory) -> Iterator[Control]:
    """Open the Control interface of the coordinator that runs on this machine.

    Raises:
        RunFailed: none runs, or it refuses.
        BadInput: the folder's secrets cannot be read, or can be read by others.
    """
    token = directory.secret(directory.control_token)
    if not is_answering(directory):
        raise RunFailed(_no_answer(directory))
    from flwr.supercore.control import ControlHttpClient

    client = ControlHttpClient.from_server_address(
        str(directory.federation().local_address),
        insecure=False,
        root_certificates=directory.authority[1].read_bytes(),
        interceptors=[_Bearer(token)],
    )
    try:
        yield Control(client, directory)
    finally:
        client.close()


def is_answering(directory: CoordinatorDirectory) -> bool:
    """Whether this federation's SuperLink answers on this machine; asked over TLS, so no other passes for it."""
    address = directory.federation().local_address
    context = ssl.create_default_context(cafile=str(directory.authority[1]))
    try:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(f"https://{address}/health", timeout=_HEALTH_SECONDS) as answer:
            return bool(answer.status < 300)
    except (urllib.error.URLError, OSError):
        return False


class _Bearer:
    """Adds the coordinator's token to every request."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept(self, context: Any, call_next: Callable[[Any], httpx.Response]) -> httpx.Response:
        context.request.headers["authorization"] = f"Bearer {self._token}"
        return call_next(context)


def _run(run: Any) -> FlowerRun:
    status = run.status.sub_status if run.status.status == "finished" else run.status.status
    return FlowerRun(
        run_id=run.run_id,
        directory=Path(run.override_config["directory"].string),
        status=status,
        details=run.status.details,
        submitted=_moment(run.pending_at),
        finished=_moment(run.finished_at),
    )


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _no_answer(directory: CoordinatorDirectory) -> str:
    return (
        f"the coordinator does not answer on {directory.federation().local_address}; start it with: "
        f"hanse coordinator run --federation {directory.path}"
    )
