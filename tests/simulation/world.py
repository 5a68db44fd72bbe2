"""Time, and the points at which something may go wrong: everything else happens between them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random

from tests.simulation.plan import Fault, Plan

EPOCH = 1_790_000_000  # the wall clock when a run begins
INFINITY = float("inf")
WAL_WRITE = "disk: write WAL"
POINTS_MAX = 150_000  # a run that needs more goes round in circles


class Ended(BaseException):
    """The agent's process ends here; no handler of the agent may catch it."""


class AgentDied(Ended):
    """The process was killed, or ended itself."""


class PowerFailed(Ended):
    """The PC has no power; ``draw`` decides what its disk had kept."""

    def __init__(self, draw: Random) -> None:
        super().__init__()
        self.draw = draw


class RunOver(Ended):
    """Nothing more is to happen in this run."""


class World:
    """The clock of one run, what is planned in it, and where it can be cut.

    Args:
        plan: The run.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.now = 0.0
        self.people = Random(f"people {plan.seed}")
        self.points = 0
        self.places: list[str] = []
        self.story: list[tuple[float, str]] = []
        self.on_fault: Callable[[Fault, str], None] = lambda fault, where: None
        self.machine_due: Callable[[], float | None] = lambda: None
        self.machine_moves: Callable[[], None] = lambda: None
        self._faults = list(reversed(plan.faults))
        self._left: float = self._faults[-1].after if self._faults else 0
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._acting = False
        self.last_fault_at = 0.0

    @property
    def faults_left(self) -> int:
        """How many faults are still to come."""
        return len(self._faults)

    def tell(self, text: str) -> None:
        """Adds a line to the story of this run."""
        self.story.append((self.now, text))

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Plans an act."""
        heapq.heappush(self._planned, (self.now + seconds, next(self._order), act))

    def point(self, where: str) -> None:
        """Something is about to happen here; this is where the next fault may strike."""
        self.points += 1
        self.places.append(where)
        if self.points > POINTS_MAX:
            self.tell("the run goes round in circles")
            raise RunOver
        if not self._faults:
            return
        self._left -= self.plan.wal_write if where == WAL_WRITE else 1.0
        if self._left > 0:
            return
        fault = self._faults.pop()
        self._left = self._faults[-1].after if self._faults else 0
        self.last_fault_at = self.now
        self.tell(f"{fault.mishap.value} (at: {where})")
        self.on_fault(fault, where)

    def pass_time(self, seconds: float) -> None:
        """Lets time pass where the agent waits or works: others act meanwhile; an act takes none."""
        if self._acting:
            return
        self.advance_to(self.now + seconds)

    def next_act_at(self) -> float:
        """When somebody does something next."""
        return self._planned[0][0] if self._planned else INFINITY

    def advance_to(self, moment: float) -> None:
        """Lets everything happen that is due until then, in order."""
        while True:
            machine = self.machine_due()
            act_at = self.next_act_at()
            if machine is not None and machine <= act_at:
                if machine > moment:
                    break
                self.now = max(self.now, machine)
                self.point("the printer at work")
                self.machine_moves()
                continue
            if act_at > moment:
                break
            self.now = max(self.now, act_at)
            act = heapq.heappop(self._planned)[2]
            self._acting = True
            try:
                act()
            finally:
                self._acting = False
        self.now = max(self.now, moment)
        self.machine_moves()


class SimulatedClock:
    """The PC's clocks: the wall clock may be wrong, the monotonic one starts with the PC."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.wrong_by = 0
        self.booted_at = 0.0

    def now(self) -> int:
        return EPOCH + int(self._world.now) + self.wrong_by

    def monotonic(self) -> float:
        return self._world.now - self.booted_at
