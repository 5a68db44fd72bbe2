"""The agent's own command in this process: after another boot of the PC, or broken on purpose.

``python -m tests.campaign.launch BOOT MUTATION run --config FILE``; an empty BOOT or MUTATION is none.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from unittest.mock import patch

from agent import service
from agent.cli import main


def _broken(name: str) -> ExitStack:
    from tests.simulation.mutations import MUTATIONS

    stack = ExitStack()
    (mutation,) = [one for one in MUTATIONS if one.name == name]
    stack.enter_context(mutation.applied())
    return stack


if __name__ == "__main__":
    boot, name, *arguments = sys.argv[1:]
    with ExitStack() as stack:
        if boot:
            # Nobody can reboot the PC of a test; the kernel's id of the boot is all that tells it.
            stack.enter_context(patch.object(service, "boot_id", lambda: boot))
        if name:
            stack.enter_context(_broken(name))
        sys.argv[1:] = arguments
        sys.exit(main())
