"""Live changes for whoever listens: nobody who changes something ever waits or fails for a slow listener."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from agent.live import CHANGES_KEPT_MAX, Changes


def test_a_listener_that_takes_nothing_loses_the_oldest_whoever_tells_at_the_same_time():
    changes = Changes()
    listener = changes.subscribe()

    def tell(who: int) -> None:
        for number in range(20_000):
            changes.tell({"who": who, "number": number})

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as tellers:
            list(tellers.map(tell, range(4)))
    finally:
        sys.setswitchinterval(interval)
    kept = []
    while (change := listener.get(0.0)) is not None:
        kept.append(change)
    assert len(kept) == CHANGES_KEPT_MAX
    assert kept[-1]["number"] == 19_999


def test_a_listener_waits_for_what_is_told_and_hears_nothing_once_it_has_closed():
    changes = Changes()
    listener, other = changes.subscribe(), changes.subscribe()
    assert listener.get(0.01) is None
    later = threading.Timer(0.05, changes.tell, [{"type": "job"}])
    later.start()
    assert listener.get(30.0) == {"type": "job"}
    later.join()
    listener.close()
    changes.tell({"type": "printer"})
    assert listener.get(0.0) is None
    assert [other.get(0.0), other.get(0.0)] == [{"type": "job"}, {"type": "printer"}]
