"""Messages and receipts over a real broker: mosquitto on loopback, with its sessions on disk."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.client import Client as MqttClient
from paho.mqtt.enums import CallbackAPIVersion
from station_fixture import (
    ABSENT,
    VECTORS,
    eventually,
    index,
    prepare,
    serving_station,
    start_process,
)

from agent.cli.client import Client
from agent.crypto import jose

BROKER = Path("/usr/sbin/mosquitto")
FIRST, SECOND, BAD = "valid-mononym", "valid-hyphen", "signature-flipped"
TOPIC = f"stations/{index()['station']}"
NAME, PASSWORD = "station", "a password with spaces"


def raw(name: str) -> bytes:
    return (VECTORS / f"messages/{name}.jws").read_bytes()


class Broker:
    """mosquitto, which may be killed and started again."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        user = "user root\n" if os.geteuid() == 0 else ""
        (folder / "conf").write_text(
            f"{user}listener {self.port} 127.0.0.1\nallow_anonymous {'false' if lines else 'true'}\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\nautosave_on_changes true\n"
            + "\n".join(lines)
        )
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [BROKER, "-c", self.folder / "conf"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, "the broker does not start; is mosquitto installed?")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def table(self, scheme: str = "mqtt", **keys: str) -> str:
        given = {"url": f"{scheme}://127.0.0.1:{self.port}"} | keys
        return "\n[mqtt]\n" + "".join(f'{key} = "{value}"\n' for key, value in given.items())


class Central:
    """The authority's side of the broker."""

    def __init__(self, broker: Broker, prepare_client=lambda client: None) -> None:
        self.receipts: list[str] = []
        self.status: dict | None = None
        self.client = MqttClient(
            CallbackAPIVersion.VERSION2, client_id="central", clean_session=False
        )
        prepare_client(self.client)
        self.client.on_connect = lambda client, *_: client.subscribe(
            [(f"{TOPIC}/receipts", 1), (f"{TOPIC}/status", 1)]
        )
        self.client.on_message = self._on_message
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()

    def _on_message(self, client, userdata, message) -> None:
        if message.topic.endswith("/status"):
            self.status = json.loads(message.payload)
        else:
            self.receipts.append(message.payload.decode())

    def send(self, name: str) -> None:
        self.client.publish(f"{TOPIC}/messages", raw(name), 1).wait_for_publish(10)

    @property
    def online(self) -> bool:
        return self.status is not None and self.status["online"]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        # It closes its own pair of sockets when it goes; in a ring of references they go before it, and complain.
        self.client.on_message = None
        del self.client


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.stop()


@pytest.fixture
def central(broker):
    central = Central(broker)
    yield central
    central.close()


def station(folder: Path, table: str):
    """The service in this process, with `[mqtt]`."""
    return serving_station(configured(folder, table))


def configured(folder: Path, table: str) -> Path:
    """A configuration with that table."""
    path = prepare(folder, ABSENT)
    path.write_text(path.read_text() + table)
    return path


def chain(client: Client) -> list[str]:
    """All receipts, as the station holds them."""
    status, body = client.call("GET", "/v1/receipts?limit=1000")
    assert status == 200
    return body.decode().splitlines()


def conditions(client: Client) -> dict[str, str]:
    return {one["name"]: one["detail"] for one in client.get("/v1/status")["conditions"]}


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_message_becomes_a_job_and_its_receipts_reach_the_authority_in_order(
    tmp_path, broker, central, version
):
    with station(tmp_path, broker.table(version=version)) as (_, client):
        eventually(lambda: central.online)
        central.send(FIRST)
        central.send(SECOND)
        eventually(lambda: len(client.get("/v1/jobs")) == 2)
        eventually(lambda: central.receipts == chain(client) and len(central.receipts) >= 3)
        eventually(lambda: central.status["receipts"] == len(central.receipts))
        assert "broker-offline" not in conditions(client)
    eventually(lambda: not central.online)


def test_what_was_published_while_the_station_was_off_is_taken_when_it_comes_back(
    tmp_path, broker, central
):
    with station(tmp_path, broker.table()):
        eventually(lambda: central.online)
    central.send(FIRST)
    broker.stop()
    broker.start()
    with station(tmp_path, broker.table()) as (_, client):
        eventually(lambda: [job["id"] for job in client.get("/v1/jobs")] == [FIRST])


def test_a_refused_message_is_kept_told_and_does_not_stop_the_next(tmp_path, broker, central):
    with station(tmp_path, broker.table()) as (_, client):
        eventually(lambda: central.online)
        central.send(BAD)
        central.send(FIRST)
        eventually(lambda: client.get("/v1/jobs"))
        kept = sorted(path.name for path in (tmp_path / "s/inbox/refused").iterdir())
        assert len(kept) == 2
        assert (tmp_path / "s/inbox/refused" / kept[0]).read_bytes() == raw(BAD)
        problem = json.loads((tmp_path / "s/inbox/refused" / kept[1]).read_text())
        assert (problem["status"], problem["type"]) == (401, "urn:print-agent:bad-signature")
        eventually(lambda: central.receipts == chain(client))
        claims = [jose.decode_base64url(line.split(".")[1].encode()) for line in central.receipts]
        assert any(b'"message-refused"' in payload for payload in claims)


def test_on_a_full_disk_nothing_is_acknowledged_and_the_message_comes_again(
    tmp_path, broker, central
):
    with station(tmp_path, broker.table()) as (service, client):
        eventually(lambda: central.online)
        room = threading.Event()
        service.station.intake._has_room = room.is_set
        central.send(FIRST)
        eventually(lambda: "disk is full" in conditions(client).get("broker-offline", ""))
        eventually(lambda: not central.online)
        assert client.get("/v1/jobs") == []
        room.set()
        eventually(lambda: [job["id"] for job in client.get("/v1/jobs")] == [FIRST])
        eventually(lambda: central.online)


def test_the_broker_hears_of_a_message_only_when_it_is_durable(tmp_path, broker, central):
    with station(tmp_path, broker.table()) as (service, client):
        eventually(lambda: central.online)
        arrived, durable, acknowledged = threading.Event(), threading.Event(), threading.Event()
        take_many = service.station.intake.take_many

        def slow(messages):
            taken = list(messages)
            if taken:
                arrived.set()
                assert durable.wait(30)
            return take_many(taken)

        ack = MqttClient.ack

        def told(self, mid, qos):
            acknowledged.set()
            return ack(self, mid, qos)

        service.station.intake.take_many = slow
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MqttClient, "ack", told)
            central.send(FIRST)
            assert arrived.wait(30)
            assert not acknowledged.wait(1.0)
            durable.set()
            assert acknowledged.wait(30)
        assert [job["id"] for job in client.get("/v1/jobs")] == [FIRST]


def test_a_broker_that_went_away_is_a_condition_and_no_receipt_is_missing_after(
    tmp_path, broker, central
):
    with station(tmp_path, broker.table()) as (_, client):
        eventually(lambda: central.online and len(central.receipts) == len(chain(client)))
        broker.stop()
        eventually(lambda: "broker-offline" in conditions(client))
        assert client.call("POST", "/v1/messages", raw(FIRST), kind="application/jose")[0] == 201
        broker.start()
        eventually(lambda: "broker-offline" not in conditions(client))
        # Some may come twice; none is missing, and none overtakes another.
        eventually(lambda: list(dict.fromkeys(central.receipts)) == chain(client))


def test_a_killed_station_is_told_by_its_will(tmp_path, broker, central):
    process = start_process(configured(tmp_path, broker.table()))
    try:
        eventually(lambda: central.online)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    eventually(lambda: not central.online)


class Certificates:
    """An authority for one broker on loopback and one station."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        self._write("ca", self._ca_key, ca=True)
        for name in ("broker", "station"):
            self._write(name, ec.generate_private_key(ec.SECP256R1()), ca=False)

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> None:
        now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=36_500))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
            .sign(self._ca_key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        form, clear = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(pem, form, clear))


def test_with_tls_a_client_certificate_and_a_password(tmp_path):
    tls = Certificates(tmp_path / "tls").folder
    passwords = tmp_path / "passwords"
    subprocess.run(
        ["/usr/bin/mosquitto_passwd", "-c", "-b", passwords, NAME, PASSWORD],
        check=True,
        capture_output=True,
    )
    broker = Broker(
        tmp_path / "broker",
        f"cafile {tls}/ca.pem",
        f"certfile {tls}/broker.pem",
        f"keyfile {tls}/broker.key",
        "require_certificate true",
        f"password_file {passwords}",
    )
    (tmp_path / "password").write_text("wrong\n")
    keys = {
        "username": NAME,
        "password_file": f"{tmp_path}/password",
        "ca": f"{tls}/ca.pem",
        "cert": f"{tls}/station.pem",
        "key": f"{tls}/station.key",
    }

    def as_central(client: MqttClient) -> None:
        client.tls_set(f"{tls}/ca.pem", f"{tls}/station.pem", f"{tls}/station.key")
        client.username_pw_set(NAME, PASSWORD)

    central = Central(broker, as_central)
    try:
        with station(tmp_path, broker.table("mqtts", **keys)) as (_, client):
            eventually(
                lambda: "refuses the connection" in conditions(client).get("broker-offline", "")
            )
            # The files are read anew at each try.
            (tmp_path / "password").write_text(f"{PASSWORD}\n")
            eventually(lambda: central.online)
            central.send(FIRST)
            eventually(lambda: [job["id"] for job in client.get("/v1/jobs")] == [FIRST])
    finally:
        central.close()
        broker.stop()


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("missing", "missing is not there, or this user may not read it"),
        ("wrong", "wrong cannot be used"),
    ],
)
@pytest.mark.parametrize("key", ["ca", "password_file", "cert"])
def test_a_file_that_cannot_be_used_is_one_clear_line(tmp_path, key, file, told):
    keys = f'{key} = "{file}"\n' + (f'key = "{file}"\n' if key == "cert" else "")
    table = f'\n[mqtt]\nurl = "mqtts://127.0.0.1:1"\nusername = "a"\n{keys}'
    path = configured(tmp_path, table)
    (tmp_path / "s/wrong").write_bytes(b"\xff no certificate\n")
    process = start_process(path)
    assert process.wait(60) == 1
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith(f"print-agent: mqtt.{key}: ")
    assert told in line
