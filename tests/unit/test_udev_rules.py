"""The udev rules, carried out by the real udevadm on a USB bus that umockdev makes up."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "udev/72-print-agent.rules"
LOCAL_RULES = """\
SUBSYSTEM=="usb", ATTR{idVendor}=="0403", ATTR{serial}=="A10K7XYZ", ENV{PRINT_AGENT}="reader"
SUBSYSTEM=="tty", KERNEL=="ttyS0", ENV{PRINT_AGENT}="printer"
SUBSYSTEM=="tty", KERNEL=="ttyS1", ENV{PRINT_AGENT}="typewriter"
SUBSYSTEM=="usb", ATTR{idVendor}=="04b8", ENV{SYSTEMD_WANTS}="configure-printer@1.service"
"""
BUS = "/devices/pci0000:00/0000:00:14.0/usb1"
# In a mount namespace of its own: the system's rules, groups and devices stay as they are.
SCRIPT = """\
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs "$1/dev"
mkdir "$1/dev/pts"
mount -t devpts devpts -o newinstance,ptmxmode=0666 "$1/dev/pts"
ln -s pts/ptmx "$1/dev/ptmx"
: >"$1/dev/null"
mount --bind /dev/null "$1/dev/null"
mount --rbind "$1/dev" /dev
mount --bind "$1/rules" /etc/udev/rules.d
mount --bind "$1/group" /etc/group
exec umockdev-run --device "$1/bus" -- udevadm test --action="$3" "/sys$2"
"""


@dataclass(frozen=True)
class Device:
    """A device of the made-up bus; ``marked`` stands for what an earlier event of its parent left."""

    path: str
    subsystem: str
    kind: str = ""
    node: str = ""
    numbers: tuple[int, int] = (0, 0)
    attributes: tuple[str, ...] = ()
    marked: str = ""

    def lines(self) -> list[str]:
        lines = [f"P: {self.path}", f"E: SUBSYSTEM={self.subsystem}"]
        if self.node:
            major, minor = self.numbers
            lines += [f"N: {self.node}", f"E: DEVNAME=/dev/{self.node}"]
            lines += [f"E: MAJOR={major}", f"E: MINOR={minor}"]
        lines += [f"E: DEVTYPE={self.kind}"] if self.kind else []
        lines += [f"E: PRINT_AGENT={self.marked}"] if self.marked else []
        return [*lines, *(f"A: {attribute}" for attribute in self.attributes), ""]


def usb(port: str, vendor: str, product: str, serial: str = "", *, marked: str = "") -> Device:
    attributes = (f"idVendor={vendor}", f"idProduct={product}", "manufacturer=M", "product=P")
    if serial:
        attributes += (f"serial={serial}",)
    number = int(port[-1])
    return Device(
        f"{BUS}/{port}",
        "usb",
        kind="usb_device",
        node=f"bus/usb/001/{number:03d}",
        numbers=(189, number - 1),
        attributes=attributes,
        marked=marked,
    )


EPSON = usb("1-2", "04b8", "0202", "X12345")
OFFICE_PRINTER = usb("1-3", "04b8", "0841", "W1")
ADAPTER = usb("1-4", "0403", "6001", "A10K7XYZ", marked="reader")
INTERFACE = Device(
    f"{ADAPTER.path}/1-4:1.0",
    "usb",
    kind="usb_interface",
    attributes=("bInterfaceNumber=00", "bInterfaceClass=ff"),
    marked="reader",
)
SERIAL_PORT = Device(f"{INTERFACE.path}/ttyUSB0", "usb-serial", marked="reader")
TTY = Device(f"{SERIAL_PORT.path}/tty/ttyUSB0", "tty", node="ttyUSB0", numbers=(188, 0))
EPSON_INTERFACE = Device(f"{EPSON.path}/1-2:1.0", "usb", kind="usb_interface", marked="printer")
USBLP = Device(f"{EPSON_INTERFACE.path}/usbmisc/lp0", "usbmisc", node="usb/lp0", numbers=(180, 0))
BUILT_IN = Device("/devices/pnp0/tty/ttyS0", "tty", node="ttyS0", numbers=(4, 64))
MISNAMED = Device("/devices/pnp0/tty/ttyS1", "tty", node="ttyS1", numbers=(4, 65))
OTHER = Device("/devices/virtual/net/eth9", "net")
DEVICES = (EPSON, EPSON_INTERFACE, USBLP, OFFICE_PRINTER, ADAPTER, INTERFACE, SERIAL_PORT, TTY)
DEVICES += (BUILT_IN, MISNAMED, OTHER)


@dataclass(frozen=True)
class Outcome:
    """What udevadm says that udev would do."""

    told: str
    properties: dict[str, str]

    @property
    def ours(self) -> list[str]:
        """What it says of each line of our file."""
        return re.findall(r"/72-print-agent\.rules:\d+ (.+)", self.told)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("udev")
    (folder / "rules").mkdir()
    (folder / "dev").mkdir()
    (folder / "rules" / RULES.name).write_bytes(RULES.read_bytes())
    (folder / "rules/70-print-agent-local.rules").write_text(LOCAL_RULES)
    (folder / "group").write_text(Path("/etc/group").read_text() + "print-agent:x:990:\n")
    bus = [line for device in (usb("usb1", "1d6b", "0002"), *DEVICES) for line in device.lines()]
    (folder / "bus").write_text("\n".join(bus).replace(f"{BUS}/usb1", BUS) + "\n")
    return folder


@pytest.fixture(scope="module")
def udev(folder: Path):
    @cache
    def call(device: Device, action: str = "add") -> Outcome:
        command = ["unshare", "--mount", "--map-root-user", "sh", "-ec", SCRIPT]
        command += ["sh", str(folder), device.path, action]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        told = done.stdout + done.stderr
        return Outcome(told, dict(re.findall(r"^\s*([.A-Z_]+)=(.*)$", told, re.MULTILINE)))

    return call


def links(outcome: Outcome) -> list[str]:
    found = outcome.properties.get("DEVLINKS", "").split()
    return [link for link in found if link.startswith("/dev/print-agent/")]


@pytest.mark.parametrize(
    ("device", "role", "link"),
    [
        (EPSON, "printer", "/dev/print-agent/usb-printer-X12345"),
        (ADAPTER, "reader", "/dev/print-agent/usb-reader-A10K7XYZ"),
        (TTY, "reader", "/dev/print-agent/reader-A10K7XYZ"),
        (BUILT_IN, "printer", "/dev/print-agent/printer-ttyS0"),
        (USBLP, "printer", None),
    ],
    ids=["usb-printer", "usb-adapter", "port-of-the-adapter", "built-in-port", "usblp"],
)
def test_a_printer_or_reader_is_the_agents_alone(udev, device, role, link):
    outcome = udev(device)
    assert links(outcome) == ([link] if link else [])
    assert "GROUP 990" in outcome.ours
    assert "MODE 0660" in outcome.ours
    assert outcome.properties["PRINT_AGENT"] == role
    assert outcome.properties["ID_MM_DEVICE_IGNORE"] == "1"
    assert ":systemd:" in outcome.properties["TAGS"]
    assert outcome.properties.get("SYSTEMD_WANTS", "") == ""


@pytest.mark.parametrize("device", [INTERFACE, SERIAL_PORT, EPSON_INTERFACE])
def test_what_has_no_device_file_only_hands_the_mark_on(udev, device):
    outcome = udev(device)
    assert outcome.properties["PRINT_AGENT"] == device.marked
    assert outcome.properties["ID_MM_DEVICE_IGNORE"] == "1"
    assert outcome.ours == []


@pytest.mark.parametrize("device", [OFFICE_PRINTER, OTHER, MISNAMED])
def test_everything_else_is_left_alone(udev, device):
    outcome = udev(device)
    assert outcome.ours == []
    assert links(outcome) == []
    assert "ID_MM_DEVICE_IGNORE" not in outcome.properties


def test_a_device_that_goes_is_left_alone(udev):
    assert udev(EPSON, "remove").ours == []


def test_trying_the_rules_changes_nothing_on_this_machine(udev):
    before = set(Path("/dev").iterdir())
    assert links(udev(BUILT_IN, "change")) == ["/dev/print-agent/printer-ttyS0"]
    assert set(Path("/dev").iterdir()) == before


def test_udevadm_finds_no_fault_in_the_file(udev):
    # Debian 12 has no `udevadm verify`; what it says while it reads the rules stands in the outcomes above:
    # each line of ours is about a group, a mode or a link.
    said = {word for device in (EPSON, TTY, USBLP) for word in udev(device).ours}
    assert {one.split()[0] for one in said} <= {"GROUP", "MODE", "LINK", "Added"}
    version = subprocess.run(["udevadm", "--version"], check=True, capture_output=True, text=True)
    if int(version.stdout) >= 254:
        subprocess.run(["udevadm", "verify", "--resolve-names=never", str(RULES)], check=True)
