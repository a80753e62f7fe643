"""Long-lived Ray actors that answer for simulated hospitals.

An actor holds one process: one copy of the data, one replica, one set of heavy imports, whatever
the number of hospitals that it answers for. It runs the very ClientApp that a SuperNode would run.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from flwr.app import Context, Error, Message, Metadata, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from simulations.engines.importing import importing
from simulations.engines.lent_memory import LEAST_BYTES, Lender, Lent, home
from simulations.error_messages import NotStarted

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from pathlib import Path

    from flwr.app import UserConfig
    from flwr.clientapp import ClientApp

    from clients.data.cohort import Deal
    from clients.learning.processors import Processors
    from simulations.engines.device_room import Room

logger = logging.getLogger(__name__)

#: The app that a SuperNode would run.
CLIENT_APP = "clients.client_app:app"
#: What that app imports on its way to the first sealed gradient.
LIBRARIES = ("clients.site.hospital", "clients.models.opacus_parts", "tenseal")
#: Of which kind messages are whose gradients hospitals compute together.
TOGETHER = "train"
#: Flower's own code for a ClientApp that raised.
CLIENT_APP_RAISED = 2
#: How long no process may start before a user is told where to look.
LATE_SECONDS = 60.0


class Hospitals:
    """Answers messages for any hospital; keeps one Flower context a node.

    Args:
        app: the ClientApp, or "module:attribute" where this process is to import its own.
        run_config: what the app is told of the run.
        nodes: part of the data by node id.
        sites: each part's own ``site.toml``; none: hospitals are simulated.
        memory: the share of a GPU's memory that this process may take.
        together: whether hospitals compute their gradients in one pass.
        deals: who goes to which hospital, as the process that starts this one has found.
        processors: free ones of this process's machine; None: this one has one.
    """

    def __init__(
        self,
        app: str | ClientApp,
        run_config: UserConfig,
        nodes: dict[int, int],
        sites: Sequence[Path] = (),
        memory: float = 1.0,
        together: bool = False,
        deals: Mapping[tuple[Hashable, ...], Deal] | None = None,
        processors: Processors | None = None,
    ) -> None:
        self._named = app
        self._processors = processors
        self._run_config = run_config
        self._nodes = nodes
        self._sites = sites
        self._memory = memory
        self._together = together
        self._deals = deals
        self._contexts: dict[int, Context] = {}
        self._lender = Lender()

    def ready(self) -> bool:
        """Import what the first message will need; returns when the process can work."""
        own = self._named == CLIENT_APP
        with importing():
            self._app()
            for library in LIBRARIES if own else ():
                import_module(library)
        return True

    def device(self) -> str:
        """Take this process's share of its device and return the device's name.

        Raises:
            NoSuchDevice: it is not there.
        """
        import torch

        from clients.learning.device import describe, find_device

        device = find_device(str(self._run_config["run.device"]))
        if device.type == "cuda" and self._memory < 1.0:
            torch.cuda.set_per_process_memory_fraction(self._memory, device)
        return describe(device)

    def peak_memory_bytes(self) -> int:
        """Return the most memory that this process has held."""
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def answer(
        self, content: RecordDict, envelopes: list[Metadata], fair_until: float = 0.0
    ) -> tuple[list[Message], list[float]]:
        """Answer messages that share one content.

        Args:
            content: the records of all messages, deserialised once.
            envelopes: one metadata a message.
            fair_until: when all hospitals would be done, were their work shared out evenly, in
                seconds since 1970; 0: nobody knows.

        Returns:
            One reply a message, in order, and the seconds of work that each took. An exception
            becomes an error reply, as on a SuperNode, but without the text of the exception.
        """
        with self._working(fair_until):
            if self._together and {one.message_type for one in envelopes} == {TOGETHER}:
                replies, seconds = self._answer_together(content, envelopes)
            else:
                replies, seconds = [], []
                for envelope in envelopes:
                    start, used = time.perf_counter(), self._used_seconds()
                    replies.append(self._answer_one(content, envelope))
                    used = self._used_seconds() - used
                    seconds.append(time.perf_counter() - start + used)
        # They travel together: none is on its way before the last is there.
        ready = time.time()
        for reply in replies:
            reply.metadata.created_at = ready
        return replies, seconds

    def answer_packed(
        self,
        content: bytes,
        envelopes: list[Metadata],
        fair_until: float = 0.0,
        near: str = "",
        place: int = 0,
    ) -> bytes | Lent:
        """Answer as `answer` does, from a packed content to packed replies.

        Ray's own way would look at each of a hundred small objects in Python.

        Args:
            content: the records of all messages.
            envelopes: one metadata a message.
            fair_until: as `answer` takes it.
            near: the `home` of who asks; who has the same is lent the replies if they are large.
            place: where they are written then, over what is there.
        """
        answered = self.answer(pickle.loads(content), envelopes, fair_until)
        packed = pickle.dumps(answered, pickle.HIGHEST_PROTOCOL)
        if len(packed) < LEAST_BYTES or not near or near != home():
            return packed
        try:
            return self._lender.lend(place, packed)
        except OSError:  # they have been paid for, and Ray can carry them
            return packed

    def lent(self, lent: Lent) -> bytes:
        """Return replies that were lent to one who cannot read them."""
        return self._lender.lent(lent)

    def _working(self, fair_until: float) -> AbstractContextManager[None]:
        """Have a processor of the machine inside the block."""
        if self._processors is None:
            return nullcontext()
        self._processors.fair_until = fair_until
        return self._processors.working()

    def _used_seconds(self) -> float:
        """Return what copies of this process have worked for it."""
        return 0.0 if self._processors is None else self._processors.used_seconds

    def _answer_together(
        self, content: RecordDict, envelopes: list[Metadata]
    ) -> tuple[list[Message], list[float]]:
        from clients.learning.joint import answer_together

        def resumed(number: int) -> None:
            _be(envelopes[number])

        start = time.perf_counter()
        works = [partial(self._answer_one, content, envelope) for envelope in envelopes]
        replies = answer_together(works, resumed)
        each = (time.perf_counter() - start) / len(replies)
        return replies, [each] * len(replies)

    def _answer_one(self, content: RecordDict, envelope: Metadata) -> Message:
        message = Message(content=content, metadata=envelope)  # type: ignore[call-overload]
        context = self._context(envelope)
        _be(envelope)
        try:
            return self._app()(message, context)
        except Exception as error:
            reason = type(error).__name__
            return Message(Error(CLIENT_APP_RAISED, reason), reply_to=message)

    def _context(self, envelope: Metadata) -> Context:
        node = envelope.dst_node_id
        if node not in self._contexts:
            part = self._nodes[node]
            own = {"site": str(self._sites[part])} if self._sites else {}
            self._contexts[node] = Context(
                run_id=envelope.run_id,
                node_id=node,
                node_config={"partition-id": part, "num-partitions": len(self._nodes), **own},
                state=RecordDict(),
                run_config=self._run_config,
            )
        return self._contexts[node]

    def _app(self) -> ClientApp:
        if not isinstance(self._named, str):
            return self._named
        if self._named == CLIENT_APP:
            from clients.client_app import make_client_app
            from clients.data import Cohorts
            from clients.site.worker import Worker

            worker = Worker(Cohorts(self._deals), processors=self._processors)
            self._named = make_client_app(worker)
            return self._named
        module, _, attribute = self._named.partition(":")
        return cast("ClientApp", getattr(import_module(module), attribute))


def _be(envelope: Metadata) -> None:
    """Say which node this process answers for, so that it may make messages."""
    TaskIdentity.run_id, TaskIdentity.node_id = envelope.run_id, envelope.dst_node_id


class Crew:
    """The actors of a run; one that died is replaced by a new one, not waited for.

    Ray can start an actor's process again by itself, but refuses calls until it has, and for good
    after so many deaths. A new actor takes calls at once and answers them when it has started.

    Args:
        run_config: what the app is told of the run.
        nodes: part of the data by node id.
        room: what each actor gets.
        cpus: processors of one actor.
        app: "module:attribute" of the ClientApp.
        deals: who goes to which hospital, where that is known already.

    Attributes:
        room: as above.
        nodes: as above.
    """

    def __init__(
        self,
        room: Room,
        run_config: UserConfig,
        nodes: dict[int, int],
        *,
        cpus: float,
        app: str = CLIENT_APP,
        deals: Mapping[tuple[Hashable, ...], Deal] | None = None,
    ) -> None:
        import ray

        self.room, self.nodes = room, nodes
        self._kill = ray.kill
        remote = ray.remote(num_cpus=cpus, num_gpus=room.gpus)(Hospitals)
        self._make = partial(
            remote.remote,
            app,
            run_config,
            nodes,
            memory=room.memory,
            together=room.together,
            # By value, not by `ray.put`: an object of this process that is left when it ends has
            # Ray answer one who waits for it with what is torn down by then, which can crash it.
            deals=dict(deals or {}),
            processors=room.processors,
        )
        self._devices: list[Any] = []
        self._beginning: list[Any] = []
        self._told = False
        self._since = time.monotonic()
        self.actors: list[Any] = [self._begun() for _ in range(room.actors)]

    def _begun(self) -> Any:
        """Start an actor, which imports what it needs while others work."""
        actor = self._make()
        self._beginning.append(actor.ready.remote())
        if self.room.on_gpu:
            self._devices.append(actor.device.remote())
        return actor

    def devices(self) -> dict[str, int]:
        """Return how many processes compute on which device; waits until they have begun.

        Raises:
            NotStarted: one of them has no such device.
        """
        import ray

        if not self.room.on_gpu:
            return {"cpu": len(self.actors)}
        waiting = self._devices
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=LATE_SECONDS)
            self.watch()
        try:
            return dict(Counter(ray.get(self._devices)))
        except ray.exceptions.RayTaskError as error:
            raise NotStarted(f"a process of hospitals cannot compute: {error.cause}") from error

    def has_begun(self) -> bool:
        """Whether any process has ever come as far as to answer."""
        import ray

        return bool(ray.wait(self._beginning, num_returns=1, timeout=0)[0])

    def watch(self) -> None:
        """Tell the user once if none has begun for long: Ray waits for one without a word."""
        if self._told or time.monotonic() - self._since < LATE_SECONDS or self.has_begun():
            return
        from simulations.engines.ray_cluster import where_to_look

        self._told = True
        logger.warning(
            "no process of hospitals has started for %.0f s; %s", LATE_SECONDS, where_to_look()
        )

    def replace(self, place: int, actor: Any) -> None:
        """Put a new actor in the place of one that died, unless that was done before."""
        if self.actors[place] is actor:
            self._kill(actor)  # it may be alive and out of reach: nobody answers twice
            self.actors[place] = self._begun()

    def end(self) -> None:
        """End all actors."""
        for actor in self.actors:
            self._kill(actor)
