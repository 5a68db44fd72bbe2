"""`print-agent doctor` beside a real station and real lines: each trouble is told, with what to do about it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import threading

import pytest
from desk_fixture import BOOK, plugged_in, shown, submit, wait_for
from station_fixture import VIRTUAL, prepare, serving

from agent import doctor as doctor_module
from agent.cli import main
from agent.drivers import device_access, interview, transport_usb
from agent.drivers.book_printer import BookPrinter
from agent.drivers.device_access import User
from agent.drivers.transport_serial import SerialTransport
from agent.drivers.transport_usb import Connected
from agent.drivers.virtual.client import spawn
from tests.unit.drivers.misbehaving_usb import MisbehavingUsb, UsbPrinter

NOBODY = User("nobody", 65_534, frozenset({65_534}))


@pytest.fixture
def doctor(tmp_path, monkeypatch, capsys):
    """The command; gives its exit code and, by part, its findings."""

    def call(*options):
        configuration = str(tmp_path / "station.toml")
        command = ["print-agent", "doctor", "--json", "--config", configuration, *options]
        monkeypatch.setattr(sys, "argv", command)
        code = main()
        said = capsys.readouterr()
        assert said.out, said.err
        told = json.loads(said.out)
        assert told["well"] == (code == 0)
        assert told["well"] == all(row["condition"] is None for row in told["findings"])
        return code, told["findings"]

    return call


def of(part, findings):
    return [(row["condition"], row["sentence"]) for row in findings if row["part"] == part]


def wanted(findings):
    return [row["condition"] for row in findings if row["condition"] is not None]


def test_all_is_well_at_a_station_that_runs_and_the_agent_is_not_disturbed(desk, doctor):
    desk.switch_on()
    with plugged_in(desk.folder / "reader"):
        reader = f'[readers.desk]\nport = "{desk.folder}/reader"'
        with desk.serving(reader) as client:
            wait_for(lambda: shown(client) == ("idle", []))
            wait_for(lambda: client.get("/v1/status")["conditions"] == [])
            taken = desk.printer.state().received_size
            code, findings = doctor()
            assert (code, wanted(findings)) == (0, [])
            parts = "configuration disk journal keys clock link link printer agent"
            assert [row["part"] for row in findings] == parts.split()
            ((_, printer),) = of("printer", findings)
            assert "the agent has it, idle: model VIRTUAL PAGE SLIP" in printer
            assert shown(client) == ("idle", [])
            assert desk.printer.state().received_size == taken


def test_what_a_running_agent_wants_of_a_person_is_told(desk, doctor):
    desk.switch_on()
    with desk.serving('[readers.desk]\nport = "/nonexistent/reader"') as client:
        wait_for(lambda: shown(client) == ("idle", []))
        desk.printer.open_cover()
        wait_for(lambda: shown(client)[0] == "stopped")
        with (desk.folder / "station.toml").open("a") as configuration:
            configuration.write('[printers.spare]\ndriver = "virtual"\n')
        code, findings = doctor()
    assert code == 1
    main_printer, _, spare = of("printer", findings)
    assert main_printer == ("printer-cover-open", "main: close the cover")
    assert spare[0] == "printer-unknown"
    assert "older configuration" in spare[1]
    ((condition, sentence),) = of("reader", findings)
    assert condition == "reader-offline"
    assert "/nonexistent/reader is not there" in sentence


def test_a_printer_is_asked_while_no_agent_runs(desk, doctor):
    desk.switch_on()
    prepare(desk.folder, desk.configuration)
    code, findings = doctor()
    assert (code, wanted(findings)) == (0, [])
    assert [sentence for _, sentence in of("printer", findings)] == [
        "main: it answers: the line works both ways",
        "main: it knows all that profile page-slip asks of it",
        "main: model VIRTUAL PAGE SLIP, serial number VIRTUAL0001, counter 0 (lost)",
    ]
    desk.printer.insert("X1")
    assert wanted(doctor()[1]) == ["printer-book-removal-wanted"]
    assert not desk.printer.book("X1").inked
    desk.printer.remove()
    desk.printer.open_cover()
    assert wanted(doctor()[1]) == ["printer-cover-open"]
    desk.printer.close_cover()
    desk.printer.jam()
    assert wanted(doctor()[1]) == ["printer-media-jam"]


def test_a_missing_printer_is_told_with_those_that_are_there(desk, doctor, monkeypatch):
    monkeypatch.setattr(device_access, "serial_ports", lambda: ["/dev/serial/by-id/usb-BOOK"])
    prepare(desk.folder, desk.configuration)
    ((condition, sentence),) = of("printer", doctor()[1])
    assert condition == "printer-offline"
    assert "printers.main.port" in sentence
    assert "that are there: /dev/serial/by-id/usb-BOOK" in sentence


def test_a_printer_that_is_not_there_is_told_once_also_beside_its_agent(desk, doctor):
    with desk.serving():
        _, findings = doctor()
    assert [condition for condition, _ in of("printer", findings)] == ["printer-offline"]


def test_a_technician_who_may_not_look_is_sent_to_sudo_and_told_no_false_troubles(
    desk, monkeypatch, capsys
):
    monkeypatch.setenv("PRINT_AGENT_CONFIG", str(prepare(desk.folder, desk.configuration)))
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(sys, "argv", ["print-agent", "doctor"])
    assert main() == 1
    told = capsys.readouterr()
    assert "sudo print-agent doctor" in told.err
    assert told.out == ""


def test_a_printer_that_may_hold_evidence_is_not_asked(desk, doctor):
    desk.switch_on()
    with desk.serving() as client:
        wait_for(lambda: shown(client) == ("idle", []))
        submit(client)
        client.post("/v1/printers/main/book", {"number": BOOK})
        wait_for(lambda: "media-needed" in shown(client)[1])
        desk.printer.set_speed(5.0)
        desk.printer.insert(BOOK)
        wait_for(lambda: desk.printer.state().printing)
        desk.printer.power_off(hang_up=True)
        wait_for(lambda: "offline" in shown(client)[1])
    desk.printer.power_on()
    code, findings = doctor()
    assert (code, wanted(findings)) == (1, ["not-running"])
    ((_, sentence),) = of("printer", findings)
    assert "not asked now" in sentence
    assert f"what became of book {BOOK} is open" in of("agent", findings)[0][1]
    assert desk.printer.state().received_size == 0


def test_automatic_status_that_is_on_after_power_on_is_told(desk, doctor):
    desk.printer = spawn(desk.directory, speed=20.0, automatic_status_mask=0x26)
    prepare(desk.folder, desk.configuration)
    code, findings = doctor()
    assert (code, wanted(findings)) == (1, ["printer-automatic-status"])
    assert "DIP or memory switch" in of("printer", findings)[0][1]


@pytest.mark.parametrize(("mask", "well"), [(0x00, True), (0x26, False)])
def test_a_power_cycle_proves_it_also_for_a_printer_that_was_used(
    desk, doctor, monkeypatch, mask, well
):
    monkeypatch.setattr(interview, "POWER_ON_S", 0.3 if well else 30.0)
    monkeypatch.setattr(interview, "POWER_LOOK_S", 1.0)
    desk.printer = spawn(desk.directory, speed=20.0, automatic_status_mask=mask)
    with desk.serving() as client:
        wait_for(lambda: shown(client) == ("idle", []))
    desk.printer.insert(
        "X1"
    )  # the agent has switched it on: this is told unasked, and proves nothing
    desk.printer.remove()
    code, findings = doctor()
    assert (code, wanted(findings)) == (0, [])
    assert "doctor --power-cycle main" in of("printer", findings)[-1][1]

    def switch_off_and_on(sentence):
        assert "switch printer main off" in sentence

        def hand():
            assert listens.wait(30)  # it has answered, and the doctor listens whether it says more
            off.wait(0.1)
            desk.printer.power_off(hang_up=True)
            off.wait(0.3)
            desk.printer.power_on()

        off = threading.Event()
        hands.append(threading.Thread(target=hand))
        hands[0].start()

    def forget(session):
        before(session)
        listens.set()

    hands, listens, before = [], threading.Event(), BookPrinter.forget
    monkeypatch.setattr(BookPrinter, "forget", forget)
    monkeypatch.setattr("agent.cli.doctor_command._tell", switch_off_and_on)
    code, findings = doctor("--power-cycle", "main")
    hands[0].join()
    assert wanted(findings) == ([] if well else ["printer-automatic-status"])
    if well:
        assert of("printer", findings)[-1][1] == "main: its automatic status is off after power-on"


def test_a_printer_of_another_kind_than_its_profile_is_told(desk, doctor):
    desk.printer = spawn(desk.directory, speed=20.0, kind="column-slip")
    prepare(desk.folder, f"{desk.configuration}\noverrides = {{reply_seconds = 0.2, width = 700}}")
    _, findings = doctor()
    assert wanted(findings) == ["printer-unfit", "printer-unfit"]
    told = [sentence for _, sentence in of("printer", findings)]
    assert "the page needs 886 dots, the profile's width is 700" in told[0]
    assert "does not clear its buffers; switch it off and on; choose the profile" in told[-1]


def test_a_printer_that_says_nothing_or_nonsense_is_told(desk, doctor):
    desk.folder.joinpath("printer").mkdir()
    with plugged_in(desk.folder / "printer/port") as device:
        prepare(desk.folder, f"{desk.configuration}\noverrides = {{reply_seconds = 0.2}}")
        ((condition, sentence),) = of("printer", doctor()[1])
        assert condition == "printer-silent"
        assert "check the baud rate and the flow control too" in sentence
        os.write(device, b"\xff\xfe\x9a\x80")
        ((condition, sentence),) = of("printer", doctor()[1])
        assert condition == "printer-silent"
        assert "it answers, but not in ESC/POS" in sentence


def test_a_line_that_lets_no_byte_go_is_told_and_no_byte_is_sent(desk, doctor, monkeypatch):
    desk.switch_on()
    prepare(desk.folder, desk.configuration)
    monkeypatch.setattr(SerialTransport, "sends_freely", False)
    ((condition, sentence),) = of("printer", doctor()[1])
    assert condition == "printer-silent"
    assert sentence.startswith("main: CTS is off")
    assert desk.printer.state().received_size == 0


def usb(numbers, serial, **facts):
    return Connected(numbers, serial, None, **{"printer": True, "kernel_driver": False} | facts)


@pytest.mark.parametrize(
    ("there", "condition", "says"),
    [
        ([], "printer-offline", "04b8:0202 is not connected"),
        ([usb("0519:0001", "S1")], "printer-offline", "there: 0519:0001 with serial number S1"),
        ([usb("046d:c077", None, printer=False)], "printer-offline", "there: none at all"),
        ([usb("04b8:0202", "X2")], "printer-offline", "there: 04b8:0202 with serial number X2"),
        ([usb("04b8:0202", "X1")] * 2, "printer-offline", "2 USB devices are 04b8:0202"),
        ([usb("04b8:0202", "X1", kernel_driver=True)], None, "(usblp) has it"),
    ],
)
def test_usb_printers_are_looked_at_on_the_bus(
    tmp_path, doctor, monkeypatch, there, condition, says
):
    prepare(tmp_path, 'transport = "usb"\nusb = "04b8:0202"\nusb_serial = "X1"')
    monkeypatch.setattr(transport_usb, "connected", lambda: there)
    told = of("printer", doctor()[1])
    assert told[0][0] == condition
    assert says in told[0][1]


def test_a_usb_printer_is_asked_by_the_requests_of_its_class_too(tmp_path, doctor, monkeypatch):
    printer = UsbPrinter(port_status=0x10)
    prepare(tmp_path, 'transport = "usb"\nusb = "04b8:0202"\noverrides = {reply_seconds = 0.2}')
    monkeypatch.setattr(transport_usb, "connected", lambda: [usb("04b8:0202", "X1")])
    monkeypatch.setattr(transport_usb, "READ_SLICE_MS", 20)
    monkeypatch.setattr(
        doctor_module,
        "open_transport",
        lambda settings: transport_usb.open_usb(settings, backend=MisbehavingUsb(printer)),
    )
    told = of("printer", doctor()[1])
    assert [condition for condition, _ in told] == [None, None, "printer-silent"]
    assert told[0][1] == "main: USB device id MFG:EPSON;MDL:BOOK1;"
    assert "port reports an error" in told[1][1]
    assert printer.events[-2:] == ["release 0", "attach 0"]


def test_another_printer_than_the_journals_is_told_before_the_agent_starts(desk, doctor):
    desk.switch_on(serial="X1")
    with desk.serving() as client:
        wait_for(lambda: shown(client) == ("idle", []))
    desk.close()
    desk.switch_on(serial="X2")
    code, findings = doctor()
    assert (code, wanted(findings)) == (1, ["printer-changed"])
    assert "its serial number is X2, that of the last one was X1" in str(findings)


def test_permissions_count_for_the_agents_user_whoever_asks(desk, doctor, monkeypatch):
    desk.switch_on()
    prepare(desk.folder, desk.configuration)
    terminal = os.path.realpath(desk.directory / "port")
    os.chmod(terminal, 0o600)
    monkeypatch.setattr(doctor_module, "_user", lambda *_: NOBODY)
    ((condition, sentence),) = of("printer", doctor()[1])
    assert condition == "printer-not-permitted"
    assert f"the agent's user nobody may not use {desk.directory}/port" in sentence
    assert "usermod -aG" in sentence
    (desk.folder / "s").chmod(0o755)
    assert wanted(doctor()[1]) == ["state-open", "printer-not-permitted"]


def test_a_configuration_that_cannot_be_read_is_a_finding_too(desk, doctor):
    (desk.folder / "station.toml").write_text("[station]\n")
    code, findings = doctor()
    assert code == 1
    assert of("configuration", findings)[0][0] == "configuration-invalid"


def test_a_damaged_journal_is_told_once_and_keeps_the_printer_unasked(desk, doctor):
    desk.switch_on()
    prepare(desk.folder, desk.configuration)
    journal = desk.folder / "s/journal.db"
    journal.write_bytes(b"no journal at all " * 100)
    journal.chmod(0o600)
    code, findings = doctor()
    assert code == 1
    assert "journal-unusable" in wanted(findings)
    assert "not asked now" in of("printer", findings)[0][1]


def test_the_virtual_printer_needs_no_look(tmp_path, doctor):
    prepare(tmp_path, VIRTUAL)
    code, findings = doctor()
    assert (code, wanted(findings)) == (0, [])
    assert of("printer", findings) == [(None, "main: it is the virtual one, for trials")]


def test_a_power_cycle_needs_a_known_printer_and_a_stopped_agent(tmp_path, monkeypatch, capsys):
    prepare(tmp_path, VIRTUAL)
    command = ["print-agent", "doctor", "--config", str(tmp_path / "station.toml")]
    monkeypatch.setattr(sys, "argv", [*command, "--power-cycle", "other"])
    assert main() == 2
    with serving(tmp_path):
        monkeypatch.setattr(sys, "argv", [*command, "--power-cycle", "main"])
        assert main() == 2
    assert "stop the agent first" in capsys.readouterr().err


def test_a_terminal_of_80_columns_shows_whole_lines(desk):
    prepare(desk.folder, desk.configuration)
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "doctor", "--config", str(desk.folder / "station.toml")],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"},
    )
    os.close(writer)
    told = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while piece := os.read(reader, 4_096):
            told += piece
    os.close(reader)
    assert process.wait() == 1
    lines = told.decode().replace(str(desk.folder), "").splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("printer       ! main:") for line in lines)
    assert lines[-1] == "one thing needs a person: the lines with !"
