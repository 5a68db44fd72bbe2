from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import config
from agent.config import Address, BookCheck, Driver, Flow, MqttVersion, Transport, Verify
from agent.errors import ConfigurationInvalid

LEAST = """
[station]
id = "sambas-01"
[authority]
id = "imigrasi-jakarta"
[printers.main]
port = "/dev/ttyS0"
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        file = tmp_path / "station.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def refusal(file: Path) -> str:
    """The one line, without the file's name that it must begin with."""
    with pytest.raises(ConfigurationInvalid) as caught:
        config.load_settings(file)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{file}: ")
    return line.removeprefix(f"{file}: ")


def test_three_keys_are_enough_and_the_rest_has_the_contracts_defaults(write):
    settings = config.load_settings(write(LEAST))
    state = Path("/var/lib/print-agent")
    assert settings.station.state_dir == state
    assert settings.authority.trust == state / "trust.jwks"
    assert settings.keys.station == state / "station.jwks"
    assert settings.keys.sealed is False
    assert settings.http.socket == Path("/run/print-agent/agent.sock")
    assert settings.http.listen is None
    assert settings.http.authority is None
    assert settings.inbox.directory == state / "inbox"
    assert settings.mqtt is settings.ups is None
    assert settings.alerts.mail_to == settings.alerts.command == ()
    assert (settings.alerts.repeat_hours, settings.alerts.receipts_hours) == (24, 24)
    printer = settings.printers["main"]
    assert (printer.driver, printer.transport) == (Driver.ESCPOS, Transport.SERIAL)
    assert (printer.baudrate, printer.flow) == (115_200, Flow.RTSCTS)
    assert (printer.profile, printer.overrides) == ("page-slip", {})
    assert printer.offset_mm == (0.0, 0.0)
    assert (printer.book_check, printer.verify) == (BookCheck.PRESENT, Verify.NONE)


def test_the_contracts_own_example_is_taken_whole(write):
    settings = config.load_settings(
        write(
            """
            [station]
            id = "sambas-01"
            state_dir = "/var/lib/print-agent"
            [authority]
            id = "imigrasi-jakarta"
            trust = "trust.jwks"
            [keys]
            station = "station.jwks"
            sealed = true
            [http]
            socket = "/run/print-agent/agent.sock"
            listen = "127.0.0.1:8631"
            [http.authority]
            listen = "0.0.0.0:8632"
            cert = "server.pem"
            key = "/etc/keys/server.key"
            client_ca = "authority-ca.pem"
            [inbox]
            directory = "inbox"
            [mqtt]
            url = "mqtts://broker.example:8883"
            version = "3.1.1"
            username = ""
            password_file = ""
            ca = ""
            cert = ""
            key = ""
            [printers.main]
            driver = "escpos"
            transport = "usb"
            port = "/dev/serial/by-id/x"
            baudrate = 9600
            flow = "xonxoff"
            usb = "04b8:0202"
            usb_serial = "J1"
            profile = "column-slip"
            overrides = {counter_kept = "durable"}
            offset_mm = [-1, 2.5]
            book_check = "none"
            verify = "mrz"
            [printers.training]
            driver = "virtual"
            [readers.mrz]
            port = "/dev/ttyS1"
            [console]
            two_person = ["resolve", "accept"]
            [retention]
            documents_days = 30
            [ups]
            name = "desk"
            upsd = "10.0.0.7:3493"
            [alerts]
            mail_to = ["ops@example.org"]
            mail_from = "sambas@example.org"
            smtp = "10.0.0.8:25"
            command = ["/usr/local/bin/notify", "--now"]
            repeat_hours = 0
            receipts_hours = 48
            """
        )
    )
    assert settings.http.listen == Address("127.0.0.1", 8631)
    assert settings.http.authority is not None
    assert settings.http.authority.listen == Address("0.0.0.0", 8632)
    assert settings.http.authority.cert == Path("/var/lib/print-agent/server.pem")
    assert settings.http.authority.key == Path("/etc/keys/server.key")
    assert settings.mqtt is not None
    assert settings.mqtt.version is MqttVersion.V311
    assert settings.mqtt.password_file is settings.mqtt.ca is settings.mqtt.cert is None
    assert settings.printers["main"].offset_mm == (-1.0, 2.5)
    assert settings.printers["main"].overrides == {"counter_kept": "durable"}
    assert settings.printers["training"].driver is Driver.VIRTUAL
    assert settings.readers["mrz"].baudrate == 9600
    assert settings.console.two_person == (config.Act.RESOLVE, config.Act.ACCEPT)
    assert settings.ups is not None
    assert settings.ups.upsd == Address("10.0.0.7", 3493)
    assert settings.alerts.smtp == Address("10.0.0.8", 25)
    assert settings.alerts.command == ("/usr/local/bin/notify", "--now")


def test_relative_paths_follow_the_state_directory_wherever_it_is(write, tmp_path):
    text = LEAST.replace("[authority]", 'state_dir = "state"\n[authority]\ntrust = "a/t.jwks"')
    settings = config.load_settings(write(text))
    assert settings.station.state_dir == tmp_path / "state"
    assert settings.authority.trust == tmp_path / "state/a/t.jwks"


def test_a_relative_configuration_path_gives_absolute_paths(write, tmp_path, monkeypatch):
    write(LEAST.replace("[authority]", 'state_dir = "state"\n[authority]'))
    monkeypatch.chdir(tmp_path)
    assert config.load_settings(Path("station.toml")).station.state_dir == tmp_path / "state"


@pytest.mark.parametrize(
    ("wrong", "instead", "key", "says"),
    [
        ('id = "sambas-01"', "", "station.id", "found nothing; needed: the station's id"),
        ('id = "sambas-01"', "id = 7", "station.id", "found 7; allowed: the station's id"),
        ('id = "sambas-01"', 'id = ""', "station.id", 'found ""'),
        ('id = "sambas-01"', 'id = "a/b"', "station.id", 'found "a/b"'),
        ('id = "sambas-01"', 'id = "a\\nb"', "station.id", 'found "a\\nb"'),
        ('id = "imigrasi-jakarta"', "", "authority.id", "found nothing; needed: the authority"),
        ("[authority]", 'state_dir = ""\n[authority]', "station.state_dir", 'found ""'),
        ("[authority]", "state_dir = 1\n[authority]", "station.state_dir", "found 1"),
        ("[authority]", 'name = "x"\n[authority]', "station.name", "unknown key; allowed: id, sta"),
        ("[printers.main]", "[printer.main]", "printers", "found nothing; needed: at least one"),
        ("[printers.main]", "[printers.Main]", "printers.Main", 'found "Main"; allowed: at least'),
        ("[printers.main]", f"[printers.{'a' * 33}]", f"printers.{'a' * 33}", "1 to 32"),
        ("[printers.main]", "[printers]", "printers.port", 'found "/dev/ttyS0"'),
        ('port = "/dev/ttyS0"', "", "printers.main.port", "found nothing; needed: the serial dev"),
        ('port = "/dev/ttyS0"', 'port = ""', "printers.main.port", 'found ""'),
        ('port = "/dev/ttyS0"', 'transport = "usb"', "printers.main.usb", "found nothing; needed"),
        ('port = "/dev/ttyS0"', 'usb = "4b8:202"', "printers.main.usb", 'found "4b8:202"'),
        ('port = "/dev/ttyS0"', 'driver = "ipp"', "printers.main.driver", '"escpos" or "virtual"'),
        ('port = "/dev/ttyS0"', "baudrate = true", "printers.main.baudrate", "found true"),
        ('port = "/dev/ttyS0"', "baudrate = 9600.0", "printers.main.baudrate", "found 9600.0"),
        ('port = "/dev/ttyS0"', "offset_mm = [nan, 0]", "printers.main.offset_mm.0", "found nan"),
        ('port = "/dev/ttyS0"', "offset_mm = [0]", "printers.main.offset_mm.1", "found"),
        ('port = "/dev/ttyS0"', "offset_mm = [0, 51]", "printers.main.offset_mm.1", "found 51"),
        ('port = "/dev/ttyS0"', 'profile = "../x"', "printers.main.profile", 'found "../x"'),
        ('port = "/dev/ttyS0"', 'speed = "x"', "printers.main.speed", "allowed: driver, tran"),
        ('port = "/dev/ttyS0"', 'verify = "mrz\\n"', "printers.main.verify", '"none" or "mrz"'),
    ],
)
def test_a_mistake_is_one_line_with_key_and_what_is_allowed(write, wrong, instead, key, says):
    line = refusal(write(LEAST.replace(wrong, instead, 1)))
    assert line.startswith(f"{key}: found")
    assert says in line


@pytest.mark.parametrize(
    ("tables", "key", "says"),
    [
        ("[http]\nlisten = 8631", "http.listen", "loopback"),
        ('[http]\nauthority = "x"', "http.authority", "a table"),
        ('[mqtt]\nversion = "5"', "mqtt.url", "found nothing"),
        ('[mqtt]\nurl = "http://x"', "mqtt.url", "mqtts://HOST:PORT"),
        ('[mqtt]\nurl = "mqtts://x"\ncert = "c"', "mqtt.key", "found nothing"),
        ('[mqtt]\nurl = "mqtts://x"\nversion = 5', "mqtt.version", "found 5"),
        ("[readers.mrz]", "readers.mrz.port", "found nothing"),
        ("[readers.MRZ]\nport = 'x'", "readers.MRZ", "allowed: tables [readers.NAME]"),
        ("[readers.a]\nport = 'x'\nprinter = 'b'", "readers.a.printer", '"b"; allowed: main'),
        ('[console]\ntwo_person = ["print"]', "console.two_person.0", '"request-transfer"'),
        ("[retention]\ndocuments_days = -1", "retention.documents_days", "found -1"),
        ('[ups]\nupsd = "127.0.0.1:3493"', "ups.name", "found nothing"),
        ('[ups]\nname = "desk\\nLOGOUT"', "ups.name", "upsc -l"),
        ('[alerts]\nmail_to = ["ops"]', "alerts.mail_to.0", "mail addresses"),
        ('[alerts]\nmail_to = ["a@b\\nBcc: c@d"]', "alerts.mail_to.0", "mail addresses"),
        ('[alerts]\ncommand = ["notify"]', "alerts.command", "full path"),
        ("[keys]\nsealed = 1", "keys.sealed", "true or false"),
        ("[inbox]\ndirectory = [1]", "inbox.directory", "found [1]"),
        ("[cups]", "cups", "unknown key; allowed: station, authority"),
    ],
)
def test_a_mistake_in_an_optional_table_is_one_line_too(write, tables, key, says):
    line = refusal(write(LEAST + tables))
    assert line.startswith(f"{key}: found")
    assert says in line


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "[::1]"])
def test_loopback_is_taken(write, host):
    settings = config.load_settings(write(LEAST + f'[http]\nlisten = "{host}:8631"'))
    assert settings.http.listen == Address(host.strip("[]"), 8631)


@pytest.mark.parametrize(
    "listen",
    [
        "0.0.0.0:8631",
        "192.168.1.2:8631",
        "[::]:8631",
        "::1:8631",
        "[127.0.0.1]:8631",
        "localhost.example:8631",
        ":8631",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:٨٦٣١",
        "127.0.0.1:8631 ",
        "127.0.0.1:1000000000000000000",
    ],
)
def test_calls_in_clear_never_leave_the_machine(write, listen):
    assert refusal(write(LEAST + f'[http]\nlisten = "{listen}"')).startswith("http.listen: found ")


def test_a_secret_under_a_misspelt_key_is_not_repeated(write):
    line = refusal(write(LEAST + '[mqtt]\nurl = "mqtts://x"\npassword = "hunter2"'))
    assert line.startswith("mqtt.password: found an unknown key")
    assert "hunter2" not in line


def test_a_long_wrong_value_does_not_fill_the_screen(write):
    assert len(refusal(write(LEAST + f'[keys]\nstation = ["{"x" * 5000}"]'))) < 200


def test_a_missing_file_says_how_to_name_another(tmp_path):
    assert "PRINT_AGENT_CONFIG" in refusal(tmp_path / "none.toml")


def test_a_directory_is_no_configuration(tmp_path):
    assert "no regular file" in refusal(tmp_path)


def test_a_pipe_does_not_hang_the_start(tmp_path):
    pipe = tmp_path / "station.toml"
    os.mkfifo(pipe)
    assert "no regular file" in refusal(pipe)


def test_a_file_that_may_not_be_read_says_so(write, mocker):
    # root may read everything, so the refusal is the operating system's in this test's hands
    file = write(LEAST)
    mocker.patch.object(Path, "read_bytes", side_effect=PermissionError(13, "Permission denied"))
    assert "cannot be read (Permission denied)" in refusal(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[station", "no valid TOML"),
        (b"a = 1\na = 2", "no valid TOML"),
        (b"a = " + b"9" * 10_000, "no valid TOML"),
        (b'[station]\nid = "\xff"', "not UTF-8 at offset 16"),
        (LEAST.encode("utf-16"), "not UTF-8 at offset 0"),
        (b"#" * (1024 * 1024 + 1), "found 1048577 bytes"),
        (b"", "station: found nothing"),
        (b"station = 3", "station: found 3; allowed: a table"),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(write, content, says):
    assert says in refusal(write(content))


def test_a_deeply_nested_file_is_no_crash(write):
    refusal(write(b"a = " + b"[" * 100_000))


def test_the_environment_names_the_file_and_the_argument_wins(write, tmp_path, monkeypatch):
    file = write(LEAST)
    monkeypatch.setenv("PRINT_AGENT_CONFIG", str(file))
    assert config.load_settings().station.id == "sambas-01"
    with pytest.raises(ConfigurationInvalid):
        config.load_settings(tmp_path / "none.toml")
    monkeypatch.setenv("PRINT_AGENT_CONFIG", "")
    assert config.configuration_path(None) == Path("/etc/print-agent/station.toml")


def test_settings_cannot_be_changed_afterwards(write):
    settings = config.load_settings(write(LEAST))
    with pytest.raises(ValueError, match="frozen"):
        settings.station.id = "other"


@given(st.text(max_size=80))
def test_no_station_id_ends_in_a_traceback_or_two_lines(text):
    table = {"station": {"id": text}, "authority": {"id": "a"}, "printers": {"m": {"port": "p"}}}
    try:
        told = config.settings_from(table, Path("/etc/station.toml")).station.id
    except ConfigurationInvalid as error:
        told = str(error)
        text = told.splitlines()[0]
    assert told == text


def test_a_key_with_a_line_feed_is_still_one_line(write):
    assert refusal(write(LEAST + '["a\\nb"]')).startswith("a\\nb: found an unknown key")
