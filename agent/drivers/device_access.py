"""Why a device file cannot be opened: who holds it, and which group may."""

from __future__ import annotations

import grp
import os

HOLDERS_MAX = 5  # named in one message


def holders(path: str) -> list[str]:
    """The processes that hold this device file, as ``name (process id)``, as far as we may see."""
    device = os.path.realpath(path)
    found: list[str] = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        if _has_open(process, device):
            own = int(process) == os.getpid()
            found.append("this agent itself" if own else f"{_name(process)} ({process})")
            if len(found) == HOLDERS_MAX:
                break
    return found


def _has_open(process: str, device: str) -> bool:
    directory = f"/proc/{process}/fd"
    try:
        descriptors = os.listdir(directory)
    except OSError:
        return False  # it ended, or belongs to another user
    for descriptor in descriptors:
        try:
            if os.readlink(f"{directory}/{descriptor}") == device:
                return True
        except OSError:
            continue
    return False


def _name(process: str) -> str:
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process that ended"


def in_use(path: str) -> str:
    """One line for a device that somebody else holds."""
    names = ", ".join(holders(path)) or "another process that this user may not see"
    return f"{path} is in use by {names}; stop it, or keep it off this device"


def not_permitted(path: str) -> str:
    """One line for a device that this user may not open, with the group that may."""
    try:
        group_id = os.stat(path).st_gid
    except OSError:
        return f"{path}: permission denied"
    try:
        group = grp.getgrgid(group_id).gr_name
    except KeyError:
        group = str(group_id)
    return f"{path}: permission denied; the agent's user must be in the group {group}"
