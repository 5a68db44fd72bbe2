"""Who may open a device file, who holds it, who else reaches for it."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import pyudev
from serial.tools import list_ports

from agent.drivers import device_access
from agent.drivers.device_access import User

OWNER, GROUP, OTHER = 1_001, 1_002, 1_003


@pytest.mark.parametrize(
    ("user", "mode", "may"),
    [
        (User("owner", OWNER, frozenset()), 0o600, True),
        (User("owner", OWNER, frozenset({GROUP})), 0o460, False),
        (User("member", OTHER, frozenset({OTHER, GROUP})), 0o660, True),
        (User("member", OTHER, frozenset({GROUP})), 0o640, False),
        (User("other", OTHER, frozenset({OTHER})), 0o660, False),
        (User("other", OTHER, frozenset()), 0o666, True),
        (User("root", 0, frozenset({0})), 0o000, True),
    ],
)
def test_a_users_permissions_are_read_from_the_mode(monkeypatch, user, mode, may):
    facts = os.stat_result((mode, 1, 1, 1, OWNER, GROUP, 0, 0, 0, 0))
    monkeypatch.setattr(device_access.os, "stat", lambda path: facts)
    assert user.may_use("/dev/printer") == may


def test_the_user_of_a_process_and_of_a_folder_is_told(tmp_path):
    own = User.of_process(os.getpid())
    assert own.uid == os.geteuid()
    assert own.groups >= {os.getegid()}
    assert User.of_owner(tmp_path) == own or User.of_owner(tmp_path).uid == own.uid
    with pytest.raises(OSError, match="No such file"):
        User.of_owner(tmp_path / "none")


def test_a_folder_of_an_unknown_user_still_has_one(tmp_path, monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(device_access.pwd, "getpwuid", unknown)
    user = User.of_owner(tmp_path)
    assert user.name == str(os.geteuid())
    assert user.groups == {tmp_path.stat().st_gid}


def test_holders_are_named_but_the_agent_itself(tmp_path):
    device = tmp_path / "device"
    device.touch()
    script = "import sys; held = open(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(device)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other, other.stdin, other.stdout:
        assert other.stdout.readline() == "held\n"
        (holder,) = device_access.holders(str(device))
        assert holder.endswith(f"({other.pid})")
        assert device_access.holders(str(device), but=other.pid) == []


def test_a_pty_is_told_from_a_device():
    device, terminal = pty.openpty()
    assert device_access.is_pty(os.ttyname(terminal))
    assert not device_access.is_pty("/dev/null")
    os.close(device)
    os.close(terminal)


def test_serial_ports_have_the_names_that_last(tmp_path, monkeypatch):
    monkeypatch.setattr(device_access, "SERIAL_NAMES", tmp_path)
    monkeypatch.setattr(list_ports, "comports", lambda: [SimpleNamespace(device="/dev/ttyUSB1")])
    (tmp_path / "usb-EPSON").symlink_to("/dev/ttyUSB1")
    assert device_access.serial_ports() == [f"{tmp_path}/usb-EPSON"]


QUEUES = """\
<DefaultPrinter office>
DeviceURI ipp://printer.local/ipp/print
</DefaultPrinter>
<Printer slip>
Info on the desk
DeviceURI serial:{port}?baud=115200
</Printer>
<Printer book>
DeviceURI usb://EPSON/TM-H6000?serial=X12345
</Printer>
"""


def test_the_queues_of_cups_that_print_on_the_device_are_named(tmp_path, monkeypatch):
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB0")
    queues = tmp_path / "printers.conf"
    monkeypatch.setattr(device_access, "CUPS_QUEUES", queues)
    port = str(tmp_path / "by-id")
    assert device_access.cups_queues(port=port) == []
    queues.write_text(QUEUES.format(port=tmp_path / "ttyUSB0"))
    assert device_access.cups_queues(port=port) == ["slip"]
    assert device_access.cups_queues(port="/dev/ttyS0") == []
    assert device_access.cups_queues(usb_serial="X12345") == ["book"]
    assert device_access.cups_queues(usb_serial="X1") == []
    assert device_access.cups_queues() == []


def test_modem_manager_reaches_for_what_it_was_not_told_to_leave(tmp_path, monkeypatch):
    device = "/dev/null"  # udev knows it everywhere
    # A name of this run's own: a real one may run on this machine.
    monkeypatch.setattr(device_access, "MODEM_MANAGER", f"modem-{os.getpid()}")
    assert not device_access.modem_manager_reaches_for(device)
    program = tmp_path / device_access.MODEM_MANAGER
    shutil.copyfile(Path("/bin/cat").resolve(), program)
    program.chmod(0o700)
    pipe = subprocess.PIPE
    with subprocess.Popen([str(program)], stdin=pipe, stdout=pipe, text=True) as process:
        process.stdin.write("it runs\n")
        process.stdin.flush()
        assert process.stdout.readline() == "it runs\n"
        assert device_access.modem_manager_reaches_for(device)
        assert not device_access.modem_manager_reaches_for(str(tmp_path))
        monkeypatch.setattr(pyudev.Device, "properties", {"ID_MM_DEVICE_IGNORE": "1"})
        assert not device_access.modem_manager_reaches_for(device)
        process.stdin.close()
