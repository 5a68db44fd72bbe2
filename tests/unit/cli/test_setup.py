"""A new station from a few answers: nothing is overwritten, nobody is asked for what was given."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import segno

from agent.cli import main, output
from agent.config import BookCheck, Driver, Transport, load_settings
from agent.crypto import sealed_keys
from agent.drivers import devices
from agent.drivers.devices import SerialDevice, UsbDevice, found_devices

SERIAL = SerialDevice(Path("/dev/serial/by-id/usb-FTDI-A10K7XYZ"))
USB = UsbDevice("04b8:0202", "J4WF012345", "TM-H6000")
ANSWERS = {
    "--station-id": "sambas-01",
    "--authority-id": "imigrasi-jakarta",
    "--printer": "/dev/ttyS9",
    "--profile": "column-slip",
    "--book-check": "none",
}


@dataclass
class Desk:
    """Where a station is set up, by what is typed."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    @property
    def configuration(self) -> Path:
        return self.folder / "etc" / "station.toml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def setup(self, *options: str, typed: str = "") -> tuple[int, str, str]:
        where = ("--config", str(self.configuration))
        self.monkeypatch.setattr(sys, "argv", ["print-agent", "setup", *where, *options])
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = main()
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err

    def setup_given(self, **changed: str) -> tuple[int, str, str]:
        answers = ANSWERS | {f"--{name.replace('_', '-')}": said for name, said in changed.items()}
        words = [word for option in answers.items() for word in option]
        return self.setup(*words, "--state-dir", str(self.state))

    def printer(self):
        return load_settings(self.configuration).printers["main"]


@pytest.fixture
def desk(tmp_path, monkeypatch, capsys) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices, "found_devices", lambda: [SERIAL, USB])
    return Desk(tmp_path, monkeypatch, capsys)


def test_with_every_answer_given_nobody_is_asked(desk):
    code, out, err = desk.setup_given()
    assert (code, err) == (0, "")
    settings = load_settings(desk.configuration)
    assert (settings.station.id, settings.authority.id) == ("sambas-01", "imigrasi-jakarta")
    assert settings.station.state_dir == desk.state
    printer = settings.printers["main"]
    assert (printer.port, printer.profile) == (Path("/dev/ttyS9"), "column-slip")
    assert printer.book_check is BookCheck.NONE
    # Technicians, who are neither root nor the agent, read it to find the socket.
    assert stat.S_IMODE(desk.configuration.stat().st_mode) == 0o644
    assert stat.S_IMODE(settings.keys.station.stat().st_mode) == 0o600
    assert str(settings.authority.trust) in out


def test_the_public_file_is_what_keys_show_tells_and_holds_no_private_key(desk):
    desk.setup_given()
    public = json.loads((desk.folder / "sambas-01.public.jwks").read_text("utf-8"))
    desk.monkeypatch.setattr(
        sys, "argv", ["print-agent", "keys", "show", "--config", str(desk.configuration)]
    )
    assert main() == 0
    assert json.loads(desk.capsys.readouterr().out) == public
    assert not [key for key in public["keys"] if "d" in key]


def test_a_person_is_asked_again_after_a_wrong_answer_and_chooses_a_device_by_its_number(desk):
    typed = "sambas/01\nsambas-01\nimigrasi-jakarta\nnowhere\n2\npage\n\n\n"
    code, out, _ = desk.setup("--state-dir", str(desk.state), typed=typed)
    assert code == 0
    assert "  1  /dev/serial/by-id/usb-FTDI-A10K7XYZ\n" in out
    assert "  2  USB 04b8:0202: TM-H6000, serial number J4WF012345\n" in out
    assert 'found "sambas/01"' in out
    assert 'found "nowhere"' in out
    assert "found 'page'" in out
    printer = desk.printer()
    assert (printer.transport, printer.usb, printer.usb_serial) == (
        Transport.USB,
        "04b8:0202",
        "J4WF012345",
    )
    assert (printer.profile, printer.book_check) == ("page-slip", BookCheck.PRESENT)


def test_an_empty_answer_takes_the_first_device(desk):
    desk.setup("--state-dir", str(desk.state), typed="a\nb\n\n\n\n")
    assert desk.printer().port == SERIAL.port


def test_a_usb_printer_and_the_virtual_one_are_named_without_a_list(desk):
    desk.setup_given(printer="04b8:0e15")
    assert desk.printer().usb == "04b8:0e15"
    desk.configuration.unlink()
    desk.setup_given(printer="virtual")
    assert desk.printer().driver is Driver.VIRTUAL


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("station_id", "a/b"),
        ("authority_id", ""),
        ("printer", "3"),
        ("profile", "thermal"),
        ("book_check", "maybe"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it_and_leaves_nothing(desk, option, wrong):
    code, _, err = desk.setup_given(**{option: wrong})
    assert code == 1
    assert err.startswith(f"print-agent: --{option.replace('_', '-')}: ")
    assert err.count("\n") == 1
    assert not desk.configuration.exists()
    assert not desk.state.exists()


def test_where_nobody_answers_the_option_is_named(desk):
    code, _, err = desk.setup("--state-dir", str(desk.state), typed="sambas-01\n")
    assert code == 1
    assert "--authority-id" in err
    assert not desk.configuration.exists()


def test_who_may_not_write_the_configuration_is_told_before_anything_is_asked(desk, monkeypatch):
    desk.configuration.parent.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _mode: path != desk.configuration.parent)
    code, shown, error = desk.setup(typed="sambas-01\n")
    assert (code, shown) == (1, "")
    assert error == f"print-agent: {desk.configuration}: this user may not write it; use sudo\n"


def test_a_second_setup_changes_nothing_and_shows_the_same_keys(desk):
    desk.setup_given()
    kept = {file: file.read_bytes() for file in desk.folder.rglob("*") if file.is_file()}
    code, out, _ = desk.setup()
    assert code == 0
    assert out.count("stays as it is") == 2
    assert {file: file.read_bytes() for file in desk.folder.rglob("*") if file.is_file()} == kept


def test_answers_for_a_station_that_is_there_are_refused(desk):
    desk.setup_given()
    before = desk.configuration.read_bytes()
    code, _, err = desk.setup_given(station_id="other-02")
    assert code == 1
    assert "never overwritten" in err
    assert desk.configuration.read_bytes() == before


def test_keys_that_root_makes_belong_to_the_agents_user(desk):
    desk.state.mkdir(mode=0o700)
    # Only root can give a folder away; everybody else owns what is made.
    user = 65_534 if os.geteuid() == 0 else os.geteuid()
    os.chown(desk.state, user, -1)
    desk.folder.chmod(0o755)
    for parent in list(desk.folder.parents)[:2]:
        parent.chmod(0o755)
    desk.setup_given()
    assert (desk.state / "station.jwks").stat().st_uid == user
    assert desk.configuration.stat().st_uid == os.geteuid()


def test_the_code_on_the_terminal_is_the_file_and_fits_eighty_columns(desk):
    desk.monkeypatch.setattr(output, "is_terminal", lambda: True)
    desk.monkeypatch.setenv("NO_COLOR", "1")
    desk.monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = desk.setup_given()
    text = (desk.folder / "sambas-01.public.jwks").read_text("utf-8").strip()
    drawn = [line for line in out.splitlines() if line.startswith(("█", "▀▀▀▀"))]
    assert max(map(len, drawn)) <= 80
    upper_lower = {" ": (1, 1), "▀": (0, 1), "▄": (1, 0), "█": (0, 0)}
    rows = [
        [upper_lower[block][half] for block in line.ljust(len(drawn[0]))]
        for line in drawn
        for half in (0, 1)
    ]
    expected = [list(row) for row in segno.make(text, error="l", micro=False).matrix_iter(border=4)]
    assert [[int(module) for module in row] for row in expected] == rows[: len(expected)]


def test_devices_are_found_under_the_name_that_lasts_longest(tmp_path):
    for name in ("dev/ttyUSB0", "dev/ttyS0", "dev/bus/usb/001/002"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name, target in (
        ("dev/print-agent/printer-A10K7XYZ", "dev/ttyUSB0"),
        ("dev/print-agent/reader-ttyS0", "dev/ttyS0"),
        ("dev/serial/by-id/usb-FTDI", "dev/ttyUSB0"),
        ("dev/serial/by-id/usb-other", "dev/ttyS0"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / target)
    for name, content in (
        ("1-1/idVendor", "04b8"),
        ("1-1/idProduct", "0202"),
        ("1-1/serial", "J4WF012345"),
        ("1-1/1-1:1.0/bInterfaceClass", "07"),
        ("1-2/idVendor", "046d"),
        ("1-2/1-2:1.0/bInterfaceClass", "03"),
    ):
        file = tmp_path / "sys/bus/usb/devices" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n", encoding="utf-8")
    assert found_devices(tmp_path) == [
        SerialDevice(tmp_path / "dev/print-agent/printer-A10K7XYZ"),
        SerialDevice(tmp_path / "dev/serial/by-id/usb-other"),
        UsbDevice("04b8:0202", "J4WF012345", "a printer"),
    ]


# A program that stands in for systemd-creds, whose real one needs root and leaves a secret on the computer.
SEALER = """\
#!/bin/sh
test "$2" = --name=station.jwks || exit 1
case "$1" in
encrypt) base64 >"$4" ;;
decrypt) base64 -d <"$3" ;;
esac
"""


@pytest.fixture
def sealer(desk) -> Path:
    program = desk.folder / "bin" / "systemd-creds"
    program.parent.mkdir()
    program.write_text(SEALER, encoding="utf-8")
    program.chmod(0o755)
    desk.monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    desk.monkeypatch.setattr(sealed_keys, "CREDENTIAL", desk.folder / "credstore" / "station.jwks")
    return program


def sealed_words(desk: Desk) -> list[str]:
    words = [word for option in ANSWERS.items() for word in option]
    return [*words, "--state-dir", str(desk.state), "--sealed"]


def test_sealed_keys_never_lie_in_clear_and_are_the_same_the_next_time(desk, sealer):
    code, _, _ = desk.setup(*sealed_words(desk))
    assert code == 0
    assert load_settings(desk.configuration).keys.sealed
    public = (desk.folder / "sambas-01.public.jwks").read_bytes()
    for file in desk.folder.rglob("*"):
        assert not file.is_file() or b'"d"' not in file.read_bytes()
    (desk.folder / "sambas-01.public.jwks").unlink()
    assert desk.setup()[0] == 0
    assert (desk.folder / "sambas-01.public.jwks").read_bytes() == public


def test_what_seals_the_keys_fails_in_one_line(desk, sealer):
    sealer.write_text("#!/bin/sh\necho 'No key.' >&2\nexit 1\n", encoding="utf-8")
    code, _, err = desk.setup(*sealed_words(desk))
    assert code == 1
    assert "systemd-creds failed (No key.)" in err
    assert err.count("\n") == 1
