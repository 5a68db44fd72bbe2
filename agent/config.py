"""station.toml as frozen settings (CONTRACT section 6): what is not said has its default.

The first thing that is wrong becomes one :class:`ConfigurationInvalid` line that names the file,
the key, what was found and what is allowed. What is allowed stands once: each field's description.
"""

from __future__ import annotations

import enum
import ipaddress
import os
import stat
import tomllib
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from agent.errors import ConfigurationInvalid

CONFIGURATION_VARIABLE = "PRINT_AGENT_CONFIG"
CONFIGURATION_PATH_DEFAULT = Path("/etc/print-agent/station.toml")
CONFIGURATION_SIZE_MAX = 1024 * 1024  # bytes; a long one has 3 KiB
SHOWN_LENGTH_MAX = 60  # characters of a wrong value that an error line shows


class Driver(enum.StrEnum):
    """The language of a book printer."""

    ESCPOS = "escpos"
    VIRTUAL = "virtual"


class Transport(enum.StrEnum):
    """How the bytes reach a printer."""

    SERIAL = "serial"
    USB = "usb"


class Flow(enum.StrEnum):
    """Flow control of a serial line."""

    RTSCTS = "rtscts"
    XONXOFF = "xonxoff"
    NONE = "none"


class BookCheck(enum.StrEnum):
    """Whether a book's number is presented before the book goes in."""

    PRESENT = "present"
    NONE = "none"


class Verify(enum.StrEnum):
    """Whether a printed book is read back before its job is completed."""

    NONE = "none"
    MRZ = "mrz"


class MqttVersion(enum.StrEnum):
    """The protocol that the broker speaks."""

    V5 = "5"
    V311 = "3.1.1"


class Act(enum.StrEnum):
    """The acts of a technician that ``[console] two_person`` may ask a second one for."""

    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    REPLAY = "replay"
    RESOLVE = "resolve"
    VERIFY = "verify"
    REQUEST_TRANSFER = "request-transfer"
    ACCEPT = "accept"


class Address(NamedTuple):
    """Where a server listens; ``host`` is an address without brackets, or ``localhost``."""

    host: str
    port: int


class _Bases(NamedTuple):
    """What relative paths are relative to: ``folder`` holds station.toml."""

    folder: Path
    state_directory: Path


def _identifier(text: str) -> str:
    """1..64 characters, none of Unicode Cc, Cf, Cs (CONTRACT section 3: what strings may hold)."""
    if not 1 <= len(text) <= 64:
        raise ValueError("length")
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs"} for character in text):
        raise ValueError("characters")
    return text


def _topic_level(text: str) -> str:
    # The station's id is one level of an MQTT topic: MQTT 5 section 4.7.1 gives these a meaning.
    if any(character in "/+#" for character in text):
        raise ValueError("characters")
    return text


def _address(text: object) -> object:
    if not isinstance(text, str):
        raise ValueError("type")
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= 65_535:
        raise ValueError("port")
    if host == "localhost":
        return Address(host, int(port))
    bracketed = host.startswith("[") and host.endswith("]")
    number = ipaddress.ip_address(host[1:-1] if bracketed else host)
    if bracketed != (number.version == 6):
        raise ValueError("brackets")
    return Address(str(number), int(port))


def _loopback(address: Address) -> Address:
    if address.host != "localhost" and not ipaddress.ip_address(address.host).is_loopback:
        raise ValueError("loopback")
    return address


def _empty_is_absent(value: object) -> object:
    return None if value == "" else value


def _list_to_tuple(value: object) -> object:
    # TOML has arrays only, and a strict tuple takes no list.
    return tuple(value) if isinstance(value, list) else value


def _program_in_full(command: tuple[str, ...]) -> tuple[str, ...]:
    # Else it would depend on the PATH of whoever starts the station.
    if command and not command[0].startswith("/"):
        raise ValueError("path")
    return command


def _beside_configuration(path: Path, info: ValidationInfo) -> Path:
    return _base(info).folder / path


def _below_state_directory(path: Path, info: ValidationInfo) -> Path:
    return _base(info).state_directory / path


def _base(info: ValidationInfo) -> _Bases:
    if not isinstance(info.context, _Bases):
        raise TypeError(
            "settings are made by load_settings, which knows what paths are relative to"
        )
    return info.context


def _said(path: Path) -> Path:
    # Path("") is the current folder, which nobody means.
    if path == Path() or "\0" in str(path):
        raise ValueError("empty")
    return path


Identifier = Annotated[str, AfterValidator(_identifier)]
SaidPath = Annotated[Path, Field(strict=False), AfterValidator(_said)]
StatePath = Annotated[SaidPath, AfterValidator(_below_state_directory)]
OptionalStatePath = Annotated[StatePath | None, BeforeValidator(_empty_is_absent)]
Listen = Annotated[Address, BeforeValidator(_address)]
MailAddress = Annotated[str, StringConstraints(pattern=r"\A[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,190}\z")]
PartName = Annotated[str, StringConstraints(pattern=r"\A[a-z0-9-]{1,32}\z")]
Millimetres = Annotated[float, Field(ge=-50, le=50, allow_inf_nan=False)]

# Keys that an earlier version knew under another name, each with the one of today: it goes on being read.
RENAMED: Mapping[str, str] = {}
TABLES_WITH_DEFAULTS = ("keys", "http", "inbox", "readers", "console", "retention", "alerts")
IDENTIFIER_ALLOWED = "1 to 64 characters, no control characters"
FILE_ALLOWED = "a path; a relative one is relative to state_dir"


class Table(BaseModel):
    """A table of station.toml: frozen, typed strictly, and without a key that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


class StationSettings(Table):
    """``[station]``."""

    id: Annotated[Identifier, AfterValidator(_topic_level)] = Field(
        description=f"the station's id, {IDENTIFIER_ALLOWED}, none of / + #"
    )
    state_dir: Annotated[SaidPath, AfterValidator(_beside_configuration)] = Field(
        default=Path("/var/lib/print-agent"),
        description="the path of the directory for journal, keys and inbox",
    )


class AuthoritySettings(Table):
    """``[authority]``."""

    id: Identifier = Field(description=f"the authority's id, {IDENTIFIER_ALLOWED}")
    trust: StatePath = Field(default=Path("trust.jwks"), description=FILE_ALLOWED)


class KeysSettings(Table):
    """``[keys]``; with ``sealed`` the file is the systemd credential named station.jwks."""

    station: StatePath = Field(default=Path("station.jwks"), description=FILE_ALLOWED)
    sealed: bool = Field(default=False, description="true or false")


class HttpAuthoritySettings(Table):
    """``[http.authority]``: the authority's calls with mutual TLS."""

    listen: Listen = Field(
        default=Address("0.0.0.0", 8632),  # noqa: S104 - mutual TLS guards it, CONTRACT section 5
        description='"ADDRESS:PORT"',
        validate_default=False,
    )
    cert: StatePath = Field(default=Path("server.pem"), description=FILE_ALLOWED)
    key: StatePath = Field(default=Path("server.key"), description=FILE_ALLOWED)
    client_ca: StatePath = Field(default=Path("authority-ca.pem"), description=FILE_ALLOWED)


class HttpSettings(Table):
    """``[http]``: the unix socket always, TCP where it is configured."""

    socket: StatePath = Field(
        default=Path("/run/print-agent/agent.sock"),
        description=FILE_ALLOWED,
    )
    listen: Annotated[Listen, AfterValidator(_loopback)] | None = Field(
        default=None,
        description='"ADDRESS:PORT" with a loopback address: 127.0.0.0/8, [::1] or localhost',
    )
    authority: HttpAuthoritySettings | None = Field(default=None, description="a table")


class InboxSettings(Table):
    """``[inbox]``."""

    directory: StatePath = Field(default=Path("inbox"), description=FILE_ALLOWED)


class MqttSettings(Table):
    """``[mqtt]``: absent means that there is no broker."""

    url: Annotated[
        str, StringConstraints(pattern=r"\Amqtts?://[^\s/?#@]+(:[0-9]{1,5})?/?\z", max_length=300)
    ] = Field(description='"mqtts://HOST:PORT" or "mqtt://HOST:PORT"')
    version: MqttVersion = Field(default=MqttVersion.V5, strict=False, description='"5" or "3.1.1"')
    username: str = Field(default="", max_length=256, description="up to 256 characters")
    password_file: OptionalStatePath = Field(default=None, description=FILE_ALLOWED)
    ca: OptionalStatePath = Field(default=None, description=FILE_ALLOWED)
    cert: OptionalStatePath = Field(default=None, description=FILE_ALLOWED)
    key: OptionalStatePath = Field(default=None, description=FILE_ALLOWED)

    @model_validator(mode="after")
    def _certificate_and_key_together(self) -> Self:
        if (self.cert is None) != (self.key is None):
            _missing("key" if self.key is None else "cert")
        return self


class PrinterSettings(Table):
    """``[printers.NAME]``; ``virtual`` needs nothing of the line."""

    driver: Driver = Field(default=Driver.ESCPOS, strict=False, description='"escpos" or "virtual"')
    transport: Transport = Field(
        default=Transport.SERIAL, strict=False, description='"serial" or "usb"'
    )
    port: SaidPath | None = Field(
        default=None,
        description='the serial device\'s path, e.g. "/dev/serial/by-id/..."',
    )
    baudrate: int = Field(
        default=115_200, ge=300, le=4_000_000, description="an integer, 300 to 4000000"
    )
    flow: Flow = Field(
        default=Flow.RTSCTS, strict=False, description='"rtscts", "xonxoff" or "none"'
    )
    usb: Annotated[str, StringConstraints(pattern=r"\A[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}\z")] | None = (
        Field(default=None, description='"VENDOR:PRODUCT", four hexadecimal digits each')
    )
    usb_serial: Annotated[str, StringConstraints(min_length=1, max_length=126)] | None = Field(
        default=None, description="the device's USB serial number, 1 to 126 characters"
    )
    profile: Annotated[str, StringConstraints(pattern=r"\A[a-z0-9-]{1,64}\z")] = Field(
        default="page-slip",
        description="the name of a file in agent/drivers/profiles, without .toml: a-z, 0-9 and -",
    )
    overrides: Mapping[str, Any] = Field(
        default_factory=dict, description="a table of keys of the profile"
    )
    offset_mm: Annotated[tuple[Millimetres, Millimetres], BeforeValidator(_list_to_tuple)] = Field(
        default=(0.0, 0.0), description="[x, y], two numbers of millimetres, -50 to 50"
    )
    book_check: BookCheck = Field(
        default=BookCheck.PRESENT, strict=False, description='"present" or "none"'
    )
    verify: Verify = Field(default=Verify.NONE, strict=False, description='"none" or "mrz"')

    @model_validator(mode="after")
    def _line_is_named(self) -> Self:
        if self.driver is Driver.VIRTUAL:
            return self
        match self.transport:
            case Transport.SERIAL if self.port is None:
                _missing("port")
            case Transport.USB if self.usb is None:
                _missing("usb")
            case Transport.SERIAL | Transport.USB:
                pass
        return self


class ReaderSettings(Table):
    """``[readers.NAME]``: a serial reader of machine-readable zones and book numbers."""

    port: SaidPath = Field(description='the serial device\'s path, e.g. "/dev/serial/by-id/..."')
    baudrate: int = Field(
        default=9_600, ge=300, le=4_000_000, description="an integer, 300 to 4000000"
    )
    printer: PartName | None = Field(
        default=None,
        description="the NAME of the [printers.NAME] that scanned book numbers are presented to",
    )


class ConsoleSettings(Table):
    """``[console]``: which acts need a second technician (CONTRACT section 5, ``second``)."""

    two_person: Annotated[
        tuple[Annotated[Act, Field(strict=False)], ...], BeforeValidator(_list_to_tuple)
    ] = Field(default=(), description="an array of " + ", ".join(f'"{act}"' for act in Act))


class RetentionSettings(Table):
    """``[retention]``: documents and message files only; receipts, ids and hashes stay (CONTRACT section 3)."""

    documents_days: int = Field(
        default=0,
        ge=0,
        le=3_650,
        description="days to keep an ended and acknowledged job's document, an integer, 0 to 3650",
    )
    accepted_days: int = Field(
        default=30,
        ge=1,
        le=3_650,
        description="days to keep an accepted message's file in the inbox's accepted/, an integer, 1 to 3650",
    )


class UpsSettings(Table):
    """``[ups]``: the uninterruptible power supply, watched through upsd of Network UPS Tools; absent means none."""

    name: Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9_.-]{1,64}\z")] = Field(
        description="what upsd calls it, as `upsc -l` lists it: 1 to 64 of A-Z a-z 0-9 _ . -"
    )
    upsd: Listen = Field(
        default=Address("127.0.0.1", 3493),
        description='"ADDRESS:PORT" where upsd listens',
        validate_default=False,
    )


class AlertsSettings(Table):
    """``[alerts]``: who is told of conditions, by mail through a relay, by a command, or both; else only the log tells."""

    mail_to: Annotated[tuple[MailAddress, ...], BeforeValidator(_list_to_tuple)] = Field(
        default=(), max_length=16, description='an array of up to 16 mail addresses, ["a@b"]'
    )
    mail_from: MailAddress = Field(
        default="print-agent@localhost", description='a mail address, "a@b"'
    )
    smtp: Listen = Field(
        default=Address("127.0.0.1", 25),
        description='"ADDRESS:PORT" of a mail relay',
        validate_default=False,
    )
    command: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1)], ...],
        BeforeValidator(_list_to_tuple),
        AfterValidator(_program_in_full),
    ] = Field(
        default=(),
        max_length=32,
        description="an array: a program by its full path and its arguments; it gets JSON on standard input",
    )
    repeat_hours: int = Field(
        default=24, ge=0, le=720, description="hours until it is told again, an integer, 0 to 720"
    )
    receipts_hours: int = Field(
        default=24,
        ge=0,
        le=720,
        description="hours that receipts may wait to be acknowledged, an integer, 0 (never told) to 720",
    )


class Settings(Table):
    """All of station.toml, with every path made absolute."""

    station: StationSettings = Field(description="a table")
    authority: AuthoritySettings = Field(description="a table")
    keys: KeysSettings = Field(description="a table")
    http: HttpSettings = Field(description="a table")
    inbox: InboxSettings = Field(description="a table")
    mqtt: MqttSettings | None = Field(default=None, description="a table")
    printers: Annotated[Mapping[PartName, PrinterSettings], Field(min_length=1)] = Field(
        description="at least one table [printers.NAME], NAME 1 to 32 of a-z, 0-9 and -"
    )
    readers: Mapping[PartName, ReaderSettings] = Field(
        description="tables [readers.NAME], NAME 1 to 32 of a-z, 0-9 and -"
    )
    console: ConsoleSettings = Field(description="a table")
    alerts: AlertsSettings = Field(description="a table")
    ups: UpsSettings | None = Field(default=None, description="a table")
    retention: RetentionSettings = Field(description="a table")

    @property
    def journal_path(self) -> Path:
        """Where the station's journal lies."""
        return self.station.state_dir / "journal.db"

    @model_validator(mode="before")
    @classmethod
    def _absent_tables_are_empty(cls, table: dict[str, Any]) -> dict[str, Any]:
        return {name: {} for name in TABLES_WITH_DEFAULTS} | table


def configuration_path(path: Path | None) -> Path:
    """The file that counts: ``--config``, else ``PRINT_AGENT_CONFIG``, else the system's."""
    if path is not None:
        return path
    named = os.environ.get(CONFIGURATION_VARIABLE)
    return Path(named) if named else CONFIGURATION_PATH_DEFAULT


def load_settings(path: Path | None = None) -> Settings:
    """Reads station.toml.

    Args:
        path: the file, or None for the one that :func:`configuration_path` names.

    Raises:
        ConfigurationInvalid: one line with file, key, what was found and what is allowed.
    """
    file = configuration_path(path)
    return settings_from(_with_todays_names(_read_table(file), file), file)


def settings_from(table: dict[str, Any], file: Path) -> Settings:
    """Settings from what a TOML reader made of ``file``.

    Raises:
        ConfigurationInvalid: as :func:`load_settings`.
    """
    try:
        settings = Settings.model_validate(table, context=_bases(table, file))
    except ValidationError as error:
        raise ConfigurationInvalid(f"{file}: {_explain(error.errors()[0])}") from None
    for name, reader in settings.readers.items():
        if reader.printer is not None and reader.printer not in settings.printers:
            raise ConfigurationInvalid(
                f'{file}: readers.{name}.printer: found "{reader.printer}"; allowed: '
                + ", ".join(settings.printers)
            )
    return settings


def _read_table(file: Path) -> dict[str, Any]:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationInvalid(f"{file}: found no regular file; allowed: a TOML file")
        if status.st_size > CONFIGURATION_SIZE_MAX:
            raise ConfigurationInvalid(
                f"{file}: found {status.st_size} bytes; allowed: up to {CONFIGURATION_SIZE_MAX}"
            )
        content = file.read_bytes()
    except FileNotFoundError:
        raise ConfigurationInvalid(
            f"{file}: found no such file; name one with --config or {CONFIGURATION_VARIABLE}"
        ) from None
    except OSError as error:
        raise ConfigurationInvalid(
            f"{file}: cannot be read ({error.strerror}); allowed: a readable TOML file"
        ) from error
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigurationInvalid(
            f"{file}: found a byte that is not UTF-8 at offset {error.start}; allowed: UTF-8 text"
        ) from None
    except (ValueError, RecursionError) as error:
        # tomllib lets the interpreter's own limits through: long integers, deep arrays.
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationInvalid(f"{file}: found no valid TOML: {reason}") from None


def _with_todays_names(table: dict[str, Any], file: Path) -> dict[str, Any]:
    """The table with every key of ``RENAMED`` under its name of today."""
    for before, today in RENAMED.items():
        *path, old = before.split(".")
        *_, new = today.split(".")
        place: Any = table
        for name in path:
            place = place.get(name) if isinstance(place, dict) else None
        if not isinstance(place, dict) or old not in place:
            continue
        if new in place:
            raise ConfigurationInvalid(
                f"{file}: {before}: found beside {new}, which is its name now; allowed: one of them"
            )
        place[new] = place.pop(old)
    return table


def _bases(table: dict[str, Any], file: Path) -> _Bases:
    """The bases of relative paths; a wrong ``state_dir`` is told by the validation that follows."""
    station = table.get("station")
    said = station.get("state_dir") if isinstance(station, dict) else None
    default: Path = StationSettings.model_fields["state_dir"].default
    folder = file.absolute().parent
    return _Bases(folder, folder / (said if isinstance(said, str) else default))


def _missing(key: str) -> None:
    raise PydanticCustomError("missing_key", "missing", {"key": key})


def _explain(detail: ErrorDetails) -> str:
    """One line without the file: key, what was found, what is allowed."""
    keys = [_escaped(str(part)) for part in detail["loc"] if part != "[key]"]
    match detail["type"]:
        case "missing":
            return f"{'.'.join(keys)}: found nothing; needed: {_allowed(keys)}"
        case "missing_key":
            keys.append(str(detail["ctx"]["key"]))
            return f"{'.'.join(keys)}: found nothing; needed: {_allowed(keys)}"
        case "extra_forbidden":
            # The value is not shown: whoever writes `password = ...` has put a secret there.
            known = ", ".join(_table_at(keys[:-1]).model_fields)
            return f"{'.'.join(keys)}: found an unknown key; allowed: {known}"
        case _:
            return f"{'.'.join(keys)}: found {_shown(detail['input'])}; allowed: {_allowed(keys)}"


def _allowed(keys: list[str]) -> str:
    """The description of the last key on the path that a table knows; others are NAMEs, indices."""
    for depth in range(len(keys), 0, -1):
        field = _table_at(keys[: depth - 1]).model_fields.get(keys[depth - 1])
        if field is not None:
            return field.description or ""
    return "a table"


def _table_at(keys: list[str]) -> type[BaseModel]:
    """The innermost table on the path."""
    table: type[BaseModel] = Settings
    for key in keys:
        field = table.model_fields.get(key)
        if field is not None:
            table = table_in(field.annotation) or table
    return table


def table_in(annotation: object) -> type[BaseModel] | None:
    """The table that an annotation is, may be, or maps names to."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(table_in, get_args(annotation))), None)


def _shown(value: object) -> str:
    """A wrong value, short and on one line."""
    match value:
        case bool():
            text = str(value).lower()
        case dict():
            text = "a table"
        case str():
            text = f'"{_escaped(value)}"'
        case _:
            text = str(value)
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[: SHOWN_LENGTH_MAX - 1]}…"


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")
