"""The MQTT link: a broker brings messages and takes receipts, for a station that nobody can call (CONTRACT section 6, "MQTT").

The broker is told that a message arrived only once it is durable, or refused and kept: what it was not told of, it
brings again. Receipts go in their order from the last one that the authority acknowledged; after a lost connection
some come twice, none is left out. One thread does all of it, and comes back by itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import ssl
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.clock import Clock, SystemClock
from agent.config import MqttSettings, MqttVersion
from agent.errors import ConfigurationInvalid, DiskFull, PrintAgentError
from agent.intake import Answer
from agent.links.problems import problem_details, problem_name
from agent.links.refused_folder import RefusedFolder
from agent.live import Condition
from agent.model import MESSAGE_SIZE_MAX

if TYPE_CHECKING:
    from agent.station import Station

PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_S = 30
ANSWER_TIMEOUT_S = 15.0  # for the broker's word on connection and subscription
TURN_S = 0.5  # how late a receipt leaves at most while nothing arrives
STATUS_EVERY_S = 5.0
PAUSE_MIN_S, PAUSE_MAX_S = 1.0, 60.0  # between two tries to connect
FLUSH_S = 2.0  # for the last receipts at an ordered stop
TOGETHER_MAX = 128  # messages taken in one go
WINDOW = 20  # receipts under way; the broker may ask for fewer
PACKET_MAX = MESSAGE_SIZE_MAX + 1024 * 1024  # a message over its limit is still told as refused
SESSION_NEVER_EXPIRES = 0xFFFF_FFFF  # MQTT 5 section 3.1.2.11.2
AT_LEAST_ONCE = 1
DISK_FULL_STATUS = 507

_log = logging.getLogger(__name__)


class BrokerLost(PrintAgentError):
    """The connection ended or could not be made; the text says why."""


@dataclass
class _Connection:
    """What the broker said on one connection; paho calls back in the thread of ``loop``."""

    client: Client
    arrived: list[MQTTMessage] = field(default_factory=list)
    subscribed: bool = False
    window: int = WINDOW
    fault: str | None = None
    under_way: deque[tuple[int, int]] = field(default_factory=deque)  # packet id and ``seq``
    taken: set[int] = field(default_factory=set)  # packet ids that the broker acknowledged

    def __post_init__(self) -> None:
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.on_publish = self._on_publish
        self.client.on_disconnect = self._on_disconnect

    def loop(self, timeout_s: float) -> None:
        """Lets the network move.

        Raises:
            BrokerLost: The connection is over, or the broker refused something.
        """
        code = self.client.loop(timeout_s)
        if self.fault is not None or code is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise BrokerLost(self.fault or error_string(code).rstrip("."))

    def _on_connect(
        self, _: Client, __: Any, ___: ConnectFlags, code: ReasonCode, told: Properties | None
    ) -> None:
        if code.is_failure:
            self.fault = f"the broker refuses the connection: {code}"
        self.window = min(WINDOW, getattr(told, "ReceiveMaximum", WINDOW))

    def _on_subscribe(
        self, _: Client, __: Any, ___: int, codes: list[ReasonCode], ____: Properties | None
    ) -> None:
        self.subscribed = codes[0].value == AT_LEAST_ONCE
        if not self.subscribed:
            self.fault = f"the broker refuses the subscription at QoS 1: {codes[0]}"

    def _on_message(self, _: Client, __: Any, message: MQTTMessage) -> None:
        self.arrived.append(message)

    def _on_publish(
        self, _: Client, __: Any, packet: int, code: ReasonCode, ___: Properties | None
    ) -> None:
        if code.is_failure:
            self.fault = f"the broker refuses a receipt: {code}"
        else:
            self.taken.add(packet)

    def _on_disconnect(
        self, _: Client, __: Any, ___: DisconnectFlags, code: ReasonCode, ____: Properties | None
    ) -> None:
        self.fault = self.fault or f"the connection ended: {code}"


class MqttLink:
    """Connects to the broker, and stays connected.

    Args:
        station: Where messages go and receipts come from; told when the thread dies.
        settings: ``[mqtt]``.
        refused: Where refused messages are kept.
        clock: Time.
    """

    def __init__(
        self,
        station: Station,
        settings: MqttSettings,
        refused: RefusedFolder,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._station = station
        self._settings = settings
        self._refused = refused
        self._clock = clock or SystemClock()
        self._topic = f"stations/{station.settings.station.id}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._fault: str | None = "not connected yet"
        # The ``seq`` through which the broker, or the authority itself, has every receipt.
        self._delivered = 0
        self._status: tuple[dict[str, Any], float] | None = None
        self.progress = 0

    def start(self) -> None:
        """Begins to connect.

        Raises:
            ConfigurationInvalid: A file of ``[mqtt]`` cannot be used.
        """
        self._new_client()
        self._delivered = int(self._station.commits.read().station("acknowledged", 0))
        self._thread.start()

    def stop(self) -> None:
        """Says goodbye to the broker, after the message at hand and the last receipts."""
        self._stopping.set()
        self._thread.join()

    def conditions(self) -> list[Condition]:
        """That the broker is away, and why."""
        fault = self._fault
        return (
            [] if fault is None else [Condition("broker-offline", f"{self._settings.url}: {fault}")]
        )

    # The connection

    def _new_client(self) -> Client:
        settings = self._settings
        is_v5 = settings.version is MqttVersion.V5
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"print-agent-{self._station.settings.station.id}",
            clean_session=None if is_v5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        if settings.username:
            client.username_pw_set(settings.username, _password(settings.password_file))
        if urlsplit(settings.url).scheme == "mqtts":
            client.tls_set_context(_tls(settings))
        will = json.dumps({"station": self._station.settings.station.id, "online": False})
        client.will_set(f"{self._topic}/status", will, qos=AT_LEAST_ONCE, retain=True)
        return client

    def _connect(self) -> _Connection:
        connection = _Connection(self._new_client())
        parts = urlsplit(self._settings.url)
        session: dict[str, Any] = {}
        if self._settings.version is MqttVersion.V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho leaves it untyped
            properties.SessionExpiryInterval = SESSION_NEVER_EXPIRES
            properties.MaximumPacketSize = PACKET_MAX
            session = {"clean_start": False, "properties": properties}
        try:
            connection.client.connect(
                str(parts.hostname), parts.port or PORTS[parts.scheme], KEEPALIVE_S, **session
            )
        except (OSError, ValueError) as error:
            raise BrokerLost(
                f"no connection: {getattr(error, 'strerror', None) or error}"
            ) from None
        deadline = self._clock.monotonic() + ANSWER_TIMEOUT_S
        asked = False
        while not connection.subscribed:
            self._move(connection)
            if connection.client.is_connected() and not asked:
                connection.client.subscribe(f"{self._topic}/messages", AT_LEAST_ONCE)
                asked = True
            if self._clock.monotonic() > deadline:
                raise BrokerLost("the broker does not answer")
        return connection

    def _run(self) -> None:
        pause_s = PAUSE_MIN_S
        try:
            while not self._stopping.is_set():
                try:
                    connection = self._connect()
                    self._fault, self._status, pause_s = None, None, PAUSE_MIN_S
                    _log.info("broker-connected")
                    self._serve(connection)
                except (BrokerLost, ConfigurationInvalid) as fault:
                    if self._fault != str(fault):
                        _log.warning("broker-offline", extra={"sentence": str(fault)})
                    self._fault = str(fault)
                    self._wait(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_MAX_S)
        except BaseException as error:  # noqa: BLE001 - a dead thread must end the process
            self._station.failed(error)

    def _wait(self, seconds: float) -> None:
        self.progress += 1
        self._stopping.wait(seconds)

    def _move(self, connection: _Connection) -> None:
        self.progress += 1
        connection.loop(TURN_S)

    def _serve(self, connection: _Connection) -> None:
        while not self._stopping.is_set():
            self._send_receipts(connection)
            self._tell_status(connection)
            self._move(connection)
            self._take_arrived(connection)
        deadline = self._clock.monotonic() + FLUSH_S
        while self._send_receipts(connection) and self._clock.monotonic() < deadline:
            self._move(connection)
        self._leave(connection)

    def _leave(self, connection: _Connection) -> None:
        """An ordered end: the session stays at the broker, the will is not needed."""
        self._publish_status(connection, online=False)
        connection.client.disconnect()

    # Messages

    def _take_arrived(self, connection: _Connection) -> None:
        count = 0
        while count < len(connection.arrived) < TOGETHER_MAX:
            count = len(connection.arrived)
            connection.loop(0.0)
        messages, connection.arrived = connection.arrived, []
        answers = self._station.intake.take_many(bytes(message.payload) for message in messages)
        try:
            for message, answer in zip(messages, answers, strict=True):
                self._keep_if_refused(bytes(message.payload), answer)
                connection.client.ack(message.mid, message.qos)
        except DiskFull as full:
            self._leave(connection)
            raise BrokerLost(f"{full}; the messages wait at the broker") from None

    def _keep_if_refused(self, raw: bytes, answer: Answer) -> None:
        if answer.accepted:
            return
        if answer.status == DISK_FULL_STATUS:
            raise DiskFull(str(answer.detail).rstrip("."))
        problem = problem_details(answer.status, problem_name(answer.type), answer.detail)
        try:
            self._refused.keep(f"{hashlib.sha256(raw).hexdigest()[:32]}.jws", raw, problem)
        except OSError as error:
            raise DiskFull(f"a refused message cannot be kept ({error.strerror})") from None
        self._station.refused(answer, raw)

    # Receipts and status

    def _send_receipts(self, connection: _Connection) -> bool:
        """Sends what the window has room for; gives whether anything is still under way."""
        under_way = connection.under_way
        while under_way and under_way[0][0] in connection.taken:
            packet, self._delivered = under_way.popleft()
            connection.taken.remove(packet)
        sent = under_way[-1][1] if under_way else self._delivered
        room = connection.window - len(under_way)
        if room > 0 and sent < self._station.journal.head.seq:
            reader = self._station.commits.read()
            for seq, text in self._station.journal.receipts_after(reader, sent, room):
                told = connection.client.publish(f"{self._topic}/receipts", text, AT_LEAST_ONCE)
                under_way.append((told.mid, seq))
        return bool(under_way)

    def _tell_status(self, connection: _Connection) -> None:
        now = self._clock.monotonic()
        if self._status is None or now >= self._status[1] + STATUS_EVERY_S:
            self._publish_status(connection, online=True)

    def _publish_status(self, connection: _Connection, *, online: bool) -> None:
        """Says it where it is new; retained, so that whoever comes later knows it too."""
        status = {
            "station": self._station.settings.station.id,
            "online": online,
            "receipts": self._station.journal.head.seq,
            "conditions": [one.name for one in self._station.overview.conditions()],
        }
        if self._status is None or self._status[0] != status:
            connection.client.publish(f"{self._topic}/status", json.dumps(status), retain=True)
        self._status = (status, self._clock.monotonic())


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable("password_file", path, error, "a readable file with one line") from None


def _tls(settings: MqttSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except OSError as error:
        raise _unusable("ca", settings.ca, error, "certificates in PEM") from None
    # Python 3.13 refuses what older ones take, such as a broker's certificate without the key identifier of its
    # authority: an upgrade of the system must not cut a station off.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.cert is not None and settings.key is not None:
        try:
            # An empty password, so that OpenSSL asks nobody for the one of a locked key.
            context.load_cert_chain(settings.cert, settings.key, password=lambda: b"")
        except OSError as error:
            allowed = "a certificate in PEM and its key in `key`"
            raise _unusable("cert", settings.cert, error, allowed) from None
    return context


def _unusable(key: str, path: Path | None, error: Exception, allowed: str) -> ConfigurationInvalid:
    why = getattr(error, "strerror", None) or "wrong content"
    return ConfigurationInvalid(f"mqtt.{key}: {path} cannot be used ({why}); allowed: {allowed}")
