from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
import usb.core

from agent.drivers import transport_usb
from agent.drivers.transport import Transport, UsbSettings
from agent.drivers.transport_usb import (
    Connected,
    PortStatus,
    UsbTransport,
    connected,
    open_usb,
)
from agent.errors import LineLost, LineUnavailable, WriteStalled
from tests.unit.drivers.misbehaving_usb import (
    Gone,
    Interface,
    MisbehavingUsb,
    Nothing,
    Overflow,
    Short,
    Stall,
    TimeOut,
    UsbPrinter,
)

ANY = UsbSettings(0x04B8, 0x0202)
LONG_S = 20.0  # never waited for


@pytest.fixture(autouse=True)
def quick_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_usb, "READ_SLICE_MS", 20)


@pytest.fixture
def printer() -> UsbPrinter:
    return UsbPrinter()


@pytest.fixture
def transport(printer: UsbPrinter) -> Iterator[UsbTransport]:
    opened = open_usb(ANY, backend=MisbehavingUsb(printer))
    yield opened
    opened.close()


def test_the_usb_transport_is_a_transport(transport: UsbTransport) -> None:
    same: Transport = transport
    assert isinstance(same, UsbTransport)


def test_open_resets_nothing_and_takes_the_kernels_driver_away_only_for_a_while(
    printer: UsbPrinter,
) -> None:
    transport = open_usb(ANY, backend=MisbehavingUsb(printer))
    assert printer.events == ["detach 0", "claim 0"]
    transport.close()
    assert printer.events == ["detach 0", "claim 0", "release 0", "attach 0"]
    assert printer.opened == 0
    transport.close()
    assert printer.opened == 0


def test_without_a_kernel_driver_none_is_attached(printer: UsbPrinter) -> None:
    printer.kernel_driver.clear()
    open_usb(ANY, backend=MisbehavingUsb(printer)).close()
    assert printer.events == ["claim 0", "release 0"]


def test_a_late_reply_that_waits_in_the_device_is_read(printer: UsbPrinter) -> None:
    printer.say(b"\x37\x22  1A\0")
    transport = open_usb(ANY, backend=MisbehavingUsb(printer))
    assert transport.read(LONG_S) == b"\x37\x22  1A\0"
    transport.close()


def test_a_device_without_a_configuration_gets_one_and_only_then(printer: UsbPrinter) -> None:
    printer.configuration = 0
    printer.kernel_driver.clear()
    open_usb(ANY, backend=MisbehavingUsb(printer)).close()
    assert printer.events == ["set_configuration", "claim 0", "release 0"]


def test_the_serial_number_tells_two_printers_apart() -> None:
    one, two = UsbPrinter(serial="X1", address=1), UsbPrinter(serial="X2", address=2)
    backend = MisbehavingUsb(one, two)
    transport = open_usb(UsbSettings(0x04B8, 0x0202, "X2"), backend=backend)
    transport.write(b"page", LONG_S)
    transport.close()
    assert (bytes(one.taken), bytes(two.taken)) == (b"", b"page")
    assert (one.opened, two.opened) == (0, 0)


def test_two_printers_without_a_serial_number_are_not_guessed_at() -> None:
    backend = MisbehavingUsb(UsbPrinter(address=1), UsbPrinter(address=2))
    with pytest.raises(LineUnavailable, match="2 of them are connected; set usb_serial"):
        open_usb(ANY, backend=backend)


def test_another_printer_in_the_same_port_is_not_taken() -> None:
    backend = MisbehavingUsb(UsbPrinter(serial="X9"), UsbPrinter(vendor=0x0519))
    with pytest.raises(LineUnavailable, match="'X1' is not connected"):
        open_usb(UsbSettings(0x04B8, 0x0202, "X1"), backend=backend)


def test_a_printer_that_comes_back_is_found_again(printer: UsbPrinter) -> None:
    backend = MisbehavingUsb(printer)
    transport = open_usb(ANY, backend=backend)
    printer.pull_cable()
    with pytest.raises(LineLost):
        transport.read(LONG_S)
    transport.close()
    with pytest.raises(LineUnavailable, match="not connected"):
        open_usb(ANY, backend=backend)
    again = UsbPrinter(address=10)
    backend.printers = [again]
    transport = open_usb(ANY, backend=backend)
    transport.write(b"\x10\x04\x05", LONG_S)
    transport.close()
    assert again.taken == b"\x10\x04\x05"


def test_no_permission_is_one_clear_line(printer: UsbPrinter) -> None:
    printer.denied = True
    for settings in (ANY, UsbSettings(0x04B8, 0x0202, "X1")):
        with pytest.raises(LineUnavailable, match="001/009: permission denied"):
            open_usb(settings, backend=MisbehavingUsb(printer))


def test_a_printer_that_another_driver_holds_is_one_clear_line_and_stays_its_own(
    printer: UsbPrinter,
) -> None:
    printer.busy = True
    with pytest.raises(LineUnavailable, match="is in use by"):
        open_usb(ANY, backend=MisbehavingUsb(printer))
    assert printer.kernel_driver == {0}
    assert printer.opened == 0


def test_a_printer_that_does_not_tell_its_serial_number_is_not_taken_for_it(
    printer: UsbPrinter,
) -> None:
    printer.strings_stall = True
    with pytest.raises(LineUnavailable):
        open_usb(UsbSettings(0x04B8, 0x0202, "X1"), backend=MisbehavingUsb(printer))


def test_no_libusb_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_backend(**_: object) -> None:
        raise usb.core.NoBackendError("No backend available")

    monkeypatch.setattr(usb.core, "find", no_backend)
    with pytest.raises(LineUnavailable, match=r"install the package libusb-1\.0-0"):
        open_usb(ANY)


OTHER = ((0x03, 2, 64), (0x84, 2, 64))  # endpoint addresses are unique in a configuration


@pytest.mark.parametrize(
    ("interfaces", "claimed"),
    [
        ((Interface(usb_class=0xFF, protocol=0xFF),), 0),
        ((Interface(0, usb_class=3), Interface(1, endpoints=OTHER)), 1),
        ((Interface(0, usb_class=0xFF), Interface(1, protocol=2, endpoints=OTHER)), 1),
        ((Interface(0, protocol=1), Interface(1, protocol=2, endpoints=OTHER)), 1),
        (
            (
                Interface(0, endpoints=((0x01, 2, 64),)),
                Interface(1, usb_class=0xFF, endpoints=OTHER),
            ),
            1,
        ),
        # An interrupt endpoint is no way for replies of a printer.
        (
            (
                Interface(0, endpoints=((0x01, 2, 64), (0x82, 3, 8))),
                Interface(1, usb_class=0xFF, endpoints=OTHER),
            ),
            1,
        ),
    ],
)
def test_the_interface_that_carries_plain_bytes_both_ways_is_taken(
    interfaces: tuple[Interface, ...], claimed: int
) -> None:
    printer = UsbPrinter(interfaces=interfaces, kernel_driver=set())
    transport = open_usb(ANY, backend=MisbehavingUsb(printer))
    assert printer.claimed == {claimed}
    transport.close()


@pytest.mark.parametrize(
    "interfaces",
    [
        (Interface(usb_class=8),),
        (Interface(protocol=3),),  # IEEE 1284.4 packets
        (Interface(protocol=4),),  # IPP over USB
        (Interface(endpoints=((0x01, 2, 64),)),),
    ],
)
def test_a_device_that_is_no_printer_with_replies_is_refused(
    interfaces: tuple[Interface, ...],
) -> None:
    printer = UsbPrinter(interfaces=interfaces)
    with pytest.raises(LineUnavailable, match="no interface of the printer class"):
        open_usb(ANY, backend=MisbehavingUsb(printer))
    assert printer.kernel_driver == {0}
    assert printer.opened == 0


def test_an_alternate_setting_is_chosen_where_only_it_carries_plain_bytes() -> None:
    interfaces = (
        Interface(0, 0, protocol=4),
        Interface(0, 1, protocol=2, endpoints=((0x03, 2, 512), (0x84, 2, 512))),
    )
    printer = UsbPrinter(interfaces=interfaces)
    transport = open_usb(ANY, backend=MisbehavingUsb(printer))
    assert "set_altsetting 0 1" in printer.events
    transport.write(b"page", LONG_S)
    assert printer.taken == b"page"
    transport.close()


def test_short_writes_are_continued_without_a_hole_or_a_repeat(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    page = os.urandom(20_000)
    printer.write_faults.extend(
        [Short(1), TimeOut(100), Short(4095), Nothing(), TimeOut(0), Short(64)]
    )
    transport.write(page, LONG_S)
    assert printer.taken == page


def test_a_printer_that_takes_nothing_stalls_the_write_with_an_exact_count(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    page = os.urandom(10_000)
    printer.write_faults.append(Short(4_000))
    printer.write_faults.append(Short(96))
    printer.full = False
    transport.write(page[:4096], LONG_S)
    printer.full = True
    assert transport.write_some(page[4096:], 0.02) == 0
    with pytest.raises(WriteStalled) as stalled:
        transport.write(page[4096:], 0.02)
    assert stalled.value.written == 0
    assert printer.taken == page[:4096]
    printer.full = False
    transport.write(page[4096:], LONG_S)
    assert printer.taken == page


def test_a_time_out_in_the_middle_counts_what_went(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    printer.write_faults.extend([Short(4096), TimeOut(10)])
    printer.full = True
    assert transport.write_some(bytes(9_000), 0.02) == 4_106
    assert len(printer.taken) == 4_106


def test_a_refused_write_is_told_and_cleared_but_never_continued(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    printer.write_faults.extend([Short(4096), Stall()])
    with pytest.raises(WriteStalled, match="refused data after at least 4096 bytes") as stalled:
        transport.write_some(bytes(9_000), LONG_S)
    assert stalled.value.written == 4096
    assert "clear_halt 0x01" in printer.events
    assert len(printer.taken) == 4096
    transport.write(b"\x10\x14\x08", LONG_S)  # the line itself still works


def test_a_cable_pulled_in_a_write_is_a_lost_line(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    printer.write_faults.extend([Short(10), Gone()])
    with pytest.raises(LineLost, match="ENODEV"):
        transport.write(bytes(100), LONG_S)
    with pytest.raises(LineLost):
        transport.write(bytes(100), LONG_S)
    with pytest.raises(LineLost):
        transport.discard_output()


def test_a_cable_pulled_ends_a_waiting_read_and_close_still_works(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    threading.Timer(0.05, printer.pull_cable).start()
    with pytest.raises(LineLost, match="ENODEV"):
        transport.read(LONG_S)
    transport.close()


def test_what_the_printer_said_before_the_cable_was_pulled_is_read_first(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    printer.say(b"\x37\x22  1A\0")
    printer.pull_cable()
    assert transport.read(LONG_S) == b"\x37\x22  1A\0"
    with pytest.raises(LineLost):
        transport.read(LONG_S)


def test_a_stalled_reply_endpoint_ends_the_session_and_is_cleared_for_the_next(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    with printer.changed:
        printer.read_faults.append(Stall())
        printer.changed.notify_all()
    with pytest.raises(LineLost, match="reply endpoint stalled"):
        transport.read(LONG_S)
    assert "clear_halt 0x82" in printer.events


def test_replies_that_did_not_fit_end_the_session(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    with printer.changed:
        printer.read_faults.append(Overflow())
        printer.changed.notify_all()
    with pytest.raises(LineLost, match="EOVERFLOW"):
        transport.read(LONG_S)


def test_reads_have_room_for_whole_packets(printer: UsbPrinter, transport: UsbTransport) -> None:
    printer.say(b"\x12")
    assert transport.read(LONG_S) == b"\x12"
    assert all(size % 64 == 0 and size for size in printer.read_sizes)


def test_a_printer_that_answers_nothing_at_once_makes_no_busy_loop(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    with printer.changed:
        printer.read_faults.extend([Nothing()] * 100_000)
        printer.changed.notify_all()
    before = printer.reads
    assert transport.read(0.4) == b""
    assert printer.reads - before < 40
    printer.say(b"\x12")
    assert transport.read(LONG_S) == b"\x12"


def test_a_printer_that_does_not_stop_talking_has_an_end(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    printer.say(bytes(3_000_000))
    # Nobody reads until the reader gave up: what it kept is bounded.
    transport._reader.join(LONG_S)
    assert 0 < len(transport.read(LONG_S)) <= 1_048_576
    with pytest.raises(LineLost, match="does not stop talking"):
        transport.read(LONG_S)


def test_another_thread_wakes_a_read(transport: UsbTransport) -> None:
    threading.Timer(0.05, transport.wake).start()
    started = time.monotonic()
    assert transport.read(LONG_S) == b""
    assert time.monotonic() - started < LONG_S / 2
    assert transport.read(0.02) == b""


def test_a_closed_line_says_so(transport: UsbTransport) -> None:
    transport.close()
    transport.wake()
    for call in (
        lambda: transport.read(LONG_S),
        lambda: transport.write(b"x", LONG_S),
        transport.device_id,
    ):
        with pytest.raises(LineLost, match="closed"):
            call()


def test_the_class_requests_tell_device_id_and_port_status(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    assert transport.device_id() == "MFG:EPSON;MDL:BOOK1;"
    assert transport.port_status() == PortStatus(error=False, selected=True, paper_empty=False)
    printer.port_status = 0x20
    assert transport.port_status() == PortStatus(error=True, selected=False, paper_empty=True)


def test_a_device_id_request_leaves_other_interfaces_alone() -> None:
    printer = UsbPrinter(
        interfaces=(Interface(0, usb_class=3), Interface(1, endpoints=OTHER)), kernel_driver=set()
    )
    transport = open_usb(ANY, backend=MisbehavingUsb(printer))
    assert transport.device_id() == "MFG:EPSON;MDL:BOOK1;"
    assert "device_id 0x0100" in printer.events
    assert printer.claimed == {1}
    transport.close()


def test_a_vendor_device_that_knows_no_class_requests_is_no_fault(
    printer: UsbPrinter, transport: UsbTransport
) -> None:
    printer.class_stall = True
    assert transport.device_id() is None
    assert transport.port_status() is None
    printer.pull_cable()
    with pytest.raises(LineLost):
        transport.port_status()


# What is there


def test_the_devices_of_the_bus_are_told_without_touching_them() -> None:
    mouse = UsbPrinter(
        vendor=0x046D, product=0xC077, serial=None, address=3, interfaces=(Interface(usb_class=3),)
    )
    printer = UsbPrinter(address=9)
    closed = UsbPrinter(serial="X2", address=10, denied=True)
    found = connected(backend=MisbehavingUsb(mouse, printer, closed))
    assert found == [
        Connected("046d:c077", None, "/dev/bus/usb/001/003", printer=False, kernel_driver=False),
        Connected("04b8:0202", "X1", "/dev/bus/usb/001/009", printer=True, kernel_driver=True),
        Connected("04b8:0202", None, "/dev/bus/usb/001/010", printer=True, kernel_driver=False),
    ]
    assert printer.events == []
    assert printer.opened == 0


def test_a_machine_without_libusb_has_no_usb_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**_: object) -> None:
        raise usb.core.NoBackendError("No backend available")

    monkeypatch.setattr(usb.core, "find", missing)
    assert connected() == []
