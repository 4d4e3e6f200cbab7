"""The processes of trials as Ray's actors: how they end, and Tune's manager of them."""

import time
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import ray
from ray.air.execution._internal import RayActorManager, TrackedActor
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)
from ray.util import placement_group_table, remove_placement_group

from sweep.driver.nodes import Pool
from sweep.driver.signs import SILENT_SECONDS, Signs

SECONDS_BETWEEN_LOOKS = 0.5
LOST = "failed", "its process was lost"
VMSTAT = Path("/proc/vmstat")


def killed_for_memory() -> int:
    """Return how many processes Linux has killed on this machine because memory ran out, of itself or of a control
    group; 0 on systems that do not count them."""
    with suppress(OSError):
        counts = dict(line.split() for line in VMSTAT.read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    return 0


def how_lost(error: Exception | None) -> tuple[str, str]:
    """Return state and reason of a trial whose process is gone, from the error that Ray raised."""
    if isinstance(error, Killed):
        return "out_of_memory", "Ray killed its process because its node ran low on memory"
    if isinstance(error, Left):
        return "preempted", "its node does not answer"
    if isinstance(error, Stranded):
        return "preempted", "the nodes that it waited for are gone"
    if isinstance(error, Silent):
        return "failed", f"it hung: its process gave no sign of life in {SILENT_SECONDS / 60:g} minutes"
    if isinstance(error, Gone):
        return "preempted", f"Ray lost its result ({str(error).splitlines()[0]})"
    if isinstance(error, ActorUnavailableError) or (
        isinstance(error, RayActorError) and (error.preempted or "its node" in str(error))
    ):
        return "preempted", "its node was lost"
    if "creation task" in str(error):  # before its first step
        return "failed", f"its process could not start ({str(error).strip().splitlines()[-1].strip()})"
    if isinstance(error, RayTaskError):  # an error of this package, outside the training
        return "failed", f"its process failed ({type(error.cause).__name__}: {error.cause})"
    return LOST


class Killed(RayActorError):
    """Ray killed an actor because its node ran low on memory."""


class Left(RayActorError):
    """An actor was to run on a node that does not answer."""


class Stranded(RayActorError):
    """An actor was to run on nodes that are gone."""


class Gone(RayActorError):
    """Ray lost what an actor had returned, or another part of itself."""


class Died(RayActorError):
    """The process of an actor died, on a node that Ray's own error does not name."""

    node: str = ""


class Silent(Died):
    """The process of an actor gave no sign of life, and was ended."""


class ActorManager(RayActorManager):
    """Tune's actor manager, changed for actors killed for lack of memory: Tune treats the exception that Ray 2.60
    raises for them as an internal error, which would end the sweep; and for actors on nodes that do not answer, or that
    are to run on nodes that are gone, or give no sign of life themselves, for which it would wait without end."""

    pool: Pool | None = None  # set by `run`, because Tune makes the instance

    def __init__(self, resource_manager: Any):
        super().__init__(resource_manager)
        self._left: set[TrackedActor] = set()  # those on nodes that do not answer
        self._looked_at = 0.0
        self._signs = Signs()
        self._silent: set[TrackedActor] = set()  # those that gave no sign of life

    def next(self, timeout: float | None = None) -> bool:
        if self.pool is not None and time.monotonic() - self._looked_at > SECONDS_BETWEEN_LOOKS:
            if self.pool.silent:
                self._leave(self.pool.silent)
            self._give_up_stranded(self.pool)
            self._looked_at = time.monotonic()
        self._end_silent()
        return super().next(timeout)

    def _end_silent(self) -> None:
        """Kill the actors for which Tune waits and that give no sign of life."""
        waited = {
            handle._actor_id.hex(): actor
            for actor, (handle, _) in self._live_actors_to_ray_actors_resources.items()
            if self._tracked_actors_to_task_futures.get(actor) or self._tracked_actors_to_state_futures.get(actor)
        }
        for name in self._signs.silent(waited):
            self._silent.add(waited[name])
            handle, _ = self._live_actors_to_ray_actors_resources[waited[name]]
            ray.kill(handle)

    def _leave(self, nodes: Set[str]) -> None:
        """Take the resources on these nodes from their trials, whose processes may never start."""
        table = placement_group_table()
        for actor, (_, resources) in self._live_actors_to_ray_actors_resources.items():
            group = cast(Any, resources).placement_group
            if nodes & set(table.get(group.id.hex(), {}).get("bundles_to_node_id", {}).values()):
                self._left.add(actor)
                remove_placement_group(group)

    def _give_up_stranded(self, pool: Pool) -> None:
        """Fail the actors that wait for nodes of which none is left."""
        for actor, (_, settings, request) in list(self._pending_actors_to_attrs.items()):
            if pool.strands(cast(Any, request).bundles[0], settings["config"]["excluded"]):
                self.remove_actor(actor)
                self._pending_actors_to_enqueued_actor_tasks.pop(actor, None)
                self._failed_actor_ids.add(actor.actor_id)
                if actor._on_error:
                    actor._on_error(actor, Stranded())

    def _actor_start_failed(self, tracked_actor: TrackedActor, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, self._named(tracked_actor, exception))

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        exception = self._named(tracked_actor_task._tracked_actor, exception)
        super()._actor_task_failed(tracked_actor_task, exception)

    def _named(self, actor: TrackedActor, exception: Exception) -> Exception:
        """Return the error of a lost actor, as one that Tune knows; any other would end the sweep."""
        if actor in self._left:
            return Left(error_msg=str(exception))
        if isinstance(exception, OutOfMemoryError):
            return Killed(error_msg=str(exception))
        if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
            return Gone(error_msg=f"{type(exception).__name__}: {exception}")
        if isinstance(exception, ActorDiedError):
            died = (Silent if actor in self._silent else Died)(error_msg=str(exception), preempted=exception.preempted)
            died.node = self._node_of(actor)
            return died
        return exception

    def _node_of(self, actor: TrackedActor) -> str:
        """Return the id of the node that an actor was placed on; "" if Ray does not say."""
        with suppress(KeyError, StopIteration, RayError):
            _, resources = self._live_actors_to_ray_actors_resources[actor]
            placed = placement_group_table(cast(Any, resources).placement_group)
            return next(iter(placed["bundles_to_node_id"].values()))
        return ""
