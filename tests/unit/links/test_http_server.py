from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import pwd
import re
import socket
import ssl
import stat
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.config import Address, HttpAuthoritySettings, HttpSettings
from agent.errors import ConfigurationInvalid, StationBusy
from agent.links import http_connection, http_server
from agent.links.http_connection import peer_uid
from agent.links.http_server import HttpServer, bind_tcp, bind_unix, tls_context
from agent.links.listener import Listener
from agent.model import BATCH_LINES_MAX
from tests.unit.links.station_double import StationDouble

ME = f"technician:{pwd.getpwuid(os.getuid()).pw_name}"
JOSE = {"Content-Type": "application/jose"}
TOKEN = {"Authorization": "Bearer right"}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


def health(path: Path) -> int:
    connection = UnixConnection(path)
    status, _ = ask(connection, "GET", "/healthz")
    connection.close()
    return status


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, **more: Any
) -> tuple[int, bytes]:
    connection.request(method, path, **more)
    answer = connection.getresponse()
    return answer.status, answer.read()


Starter = Callable[..., tuple[HttpServer, StationDouble]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    servers: list[HttpServer] = []

    def starter(**http: Any) -> tuple[HttpServer, StationDouble]:
        station = StationDouble()
        http.setdefault("socket", tmp_path / "agent.sock")
        http.setdefault("listen", None)
        http.setdefault("authority", None)
        settings = types.SimpleNamespace(http=HttpSettings.model_construct(**http))
        server = HttpServer(station, settings)  # type: ignore[arg-type]  # what the server asks of them
        server.start()
        servers.append(server)
        return server, station

    yield starter
    for server in servers:
        server.stop()


def test_the_socket_is_for_owner_and_group_whatever_the_umask(start: Starter, tmp_path: Path):
    before = os.umask(0)
    try:
        start()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "agent.sock").stat().st_mode) == 0o660


def test_a_strict_umask_does_not_lock_the_group_out(start: Starter, tmp_path: Path):
    before = os.umask(0o077)
    try:
        start()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "agent.sock").stat().st_mode) == 0o660


def test_the_actor_is_the_uid_that_the_kernel_names(start: Starter, tmp_path: Path):
    _, station = start()
    connection = UnixConnection(tmp_path / "agent.sock")
    assert ask(connection, "POST", "/v1/jobs/job-1/hold", headers=TOKEN)[0] == 200
    assert station.acts == [("hold", "job-1", {}, ME)]
    connection.close()


def test_the_peer_s_uid_is_read_unsigned():
    here, there = socket.socketpair()
    with here, there:
        assert peer_uid(here) == os.getuid()


def test_a_dead_agent_s_socket_is_replaced(start: Starter, tmp_path: Path):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "agent.sock"))
    dead.close()
    start()
    assert health(tmp_path / "agent.sock") == 200


def test_a_live_agent_s_socket_is_never_taken_away(start: Starter, tmp_path: Path):
    start()
    with pytest.raises(StationBusy, match="answers"):
        start()
    assert health(tmp_path / "agent.sock") == 200


def test_a_live_agent_with_a_full_queue_is_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_server, "PROBE_TIMEOUT_S", 0.01)
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(str(path))
        with pytest.raises(StationBusy):
            bind_unix(path)
        assert path.is_socket()
        for each in waiting:
            each.close()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_is_no_socket_is_never_removed(tmp_path: Path, make: Callable[[Path], None]):
    make(tmp_path / "agent.sock")
    with pytest.raises(ConfigurationInvalid, match=r"http\.socket"):
        bind_unix(tmp_path / "agent.sock")
    assert (tmp_path / "agent.sock").exists()


def test_a_path_too_long_for_a_socket_is_one_clear_line(tmp_path: Path):
    with pytest.raises(ConfigurationInvalid, match="107 bytes"):
        bind_unix(tmp_path / ("x" * 200))


def test_a_stopped_server_takes_its_own_socket_away_and_no_other(start: Starter, tmp_path: Path):
    server, _ = start()
    server.stop()
    assert not (tmp_path / "agent.sock").exists()
    server, _ = start()
    (tmp_path / "agent.sock").unlink()
    other = bind_unix(tmp_path / "agent.sock")
    server.stop()
    assert (tmp_path / "agent.sock").is_socket()
    other.close()


def test_loopback_needs_the_token_for_the_technician_only(start: Starter):
    server, station = start(listen=Address("127.0.0.1", 0))
    _, port = server.addresses(Listener.LOOPBACK)[0]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    assert ask(connection, "GET", "/v1/jobs")[0] == 401
    assert ask(connection, "GET", "/v1/jobs", headers=TOKEN)[0] == 200
    assert ask(connection, "GET", "/v1/status")[0] == 200
    assert ask(connection, "POST", "/v1/messages", body=b"good", headers=JOSE)[0] == 201
    assert ask(connection, "GET", "/v1/status", headers={"Host": "evil.example"})[0] == 421
    assert list(station.intake.known) == [b"good"]
    connection.close()


def test_a_taken_port_is_one_clear_line(start: Starter, tmp_path: Path):
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ConfigurationInvalid, match=r"http\.listen: 127"),
    ):
        start(listen=Address("127.0.0.1", other.getsockname()[1]))
    assert not (tmp_path / "agent.sock").exists()


def test_localhost_is_bound():
    bound = bind_tcp(Address("localhost", 0), "http.listen")
    assert bound
    for each in bound:
        each.close()


def test_what_is_no_http_gets_problem_details(start: Starter, tmp_path: Path):
    start()
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(str(tmp_path / "agent.sock"))
        line.sendall(b"\x00\x01garbage\r\n\r\n")
        answer = b"".join(iter(lambda: line.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in head
    assert json.loads(body)["type"] == "urn:print-agent:malformed"


def test_a_head_that_drips_is_cut_off(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_connection, "HEAD_TIMEOUT_S", 0.05)
    start()
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(str(tmp_path / "agent.sock"))
        line.sendall(b"GET /healthz HT")
        assert line.recv(1) == b""


def test_a_line_stays_open_for_the_next_call_after_a_slow_head_was_in_time(
    start: Starter, tmp_path: Path
):
    start()
    connection = UnixConnection(tmp_path / "agent.sock")
    for _ in range(3):
        assert ask(connection, "GET", "/healthz")[0] == 200
    connection.close()


def test_a_refused_body_that_goes_on_is_read_to_its_end_so_that_the_answer_arrives(
    start: Starter, tmp_path: Path
):
    _, station = start()
    connection = UnixConnection(tmp_path / "agent.sock")
    lines = b"good\n" * (BATCH_LINES_MAX + 1) + b"x" * 4_000_000
    status, body = ask(
        connection,
        "POST",
        "/v1/messages",
        body=lines,
        headers={"Content-Type": "application/jose-seq"},
    )
    assert (status, json.loads(body)["type"]) == (413, "urn:print-agent:too-large")
    assert ask(connection, "GET", "/healthz")[0] == 200
    assert station.failures == []
    connection.close()


@pytest.mark.parametrize("kind", [b"text/plain", b"application/jose"])
@pytest.mark.parametrize("tcp", [False, True])
def test_the_answer_arrives_though_the_refused_peer_hangs_up_after_it(
    start: Starter, tmp_path: Path, kind: bytes, tcp: bool
):
    server, _ = start(listen=Address("127.0.0.1", 0))
    sent = POST.replace(b"application/jose", kind) + LAST + b"Content-Length: 8000000\r\n\r\n"
    if tcp:
        line = socket.create_connection(server.addresses(Listener.LOOPBACK)[0], timeout=20)
    else:
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(20)
        line.connect(str(tmp_path / "agent.sock"))
    with line:
        line.sendall(sent + b"x" * 8_000_000)
        answer = b"".join(iter(lambda: line.recv(65_536), b""))
    assert answer.startswith((b"HTTP/1.1 415", b"HTTP/1.1 413"))
    assert answer.count(b"urn:print-agent:") == 1


def test_a_refused_body_without_end_is_cut_off(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_connection, "UNREAD_BYTES_MAX", 200_000)
    start()
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(str(tmp_path / "agent.sock"))
        line.sendall(
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
            b"Content-Length: 100000000000\r\n\r\n"
        )
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            line.sendall(b"x" * 50_000_000)


SLOW = {
    "no word at all": b"",
    "half a head": b"GET /healthz HT",
    "a body that never comes": (
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose\r\n"
        b"Content-Length: 9\r\n\r\n"
    ),
    "a body without end": (
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n"
    ),
    "technician's words": b"POST /v1/jobs/job-1/hold HTTP/1.1\r\nContent-Length: 9\r\nHost: localhost\r\n\r\n{",
}


@pytest.mark.parametrize("word", SLOW.values(), ids=SLOW)
def test_a_crowd_that_keeps_the_station_waiting_gives_way_to_who_does_not(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: bytes
):
    monkeypatch.setattr(http_connection, "CONNECTIONS_MAX", 8)
    _, station = start()
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for line in crowd:
        line.settimeout(20)
        line.connect(str(tmp_path / "agent.sock"))
        with contextlib.suppress(BrokenPipeError):
            line.sendall(word)
    connection = UnixConnection(tmp_path / "agent.sock")
    assert ask(connection, "POST", "/v1/messages", body=b"good", headers=JOSE)[0] == 201
    # The oldest of them were cut off, and the process holds no more of them than it may.
    with contextlib.suppress(ConnectionResetError):
        assert crowd[0].recv(1) == b""
    for line in (connection, *crowd):
        line.close()
    assert station.failures == []


def test_a_crowd_whose_calls_are_under_way_is_not_cut_off_for_a_newcomer(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_connection, "CONNECTIONS_MAX", 2)
    server, station = start(listen=Address("127.0.0.1", 0))
    station.intake.wait_for = gate = threading.Event()
    busy = [UnixConnection(tmp_path / "agent.sock") for _ in range(2)]
    for number, connection in enumerate(busy):
        connection.request("POST", "/v1/messages", body=b"good-%d" % number, headers=JOSE)
    while len(station.intake.waiting) < 2:
        station.intake.begun.wait(0.01)
    newcomer = UnixConnection(tmp_path / "agent.sock")
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        ask(newcomer, "GET", "/healthz")
    # Another listener has a crowd of its own.
    _, port = server.addresses(Listener.LOOPBACK)[0]
    other = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    assert ask(other, "GET", "/healthz")[0] == 200
    gate.set()
    assert [connection.getresponse().status for connection in busy] == [201, 201]
    for each in (*busy, newcomer, other):
        each.close()


def test_a_door_that_breaks_ends_the_process(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server, station = start()
    told = threading.Event()
    station.failed = lambda error: (station.failures.append(error), told.set())[1]
    bug = ValueError("a bug")

    def broken(_: Any) -> bool:
        raise bug

    monkeypatch.setattr(http_connection.Crowd, "make_room", broken)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(tmp_path / "agent.sock"))
        assert told.wait(20)
    assert station.failures == [bug]
    server.stop()


def exchange(path: Path, sent: bytes) -> bytes:
    """Everything that comes back, until the server hangs up."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            line.sendall(sent)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := line.recv(65_536):
                answer += piece
    return answer


LAST = b"Connection: close\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        GET + b"X: " + b"x" * 2_000_000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: y\r\n" % number for number in range(200_000)) + LAST + b"\r\n",
        b"GET /" + b"a" * 2_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        GET + b"X: a\r\n folded\r\n\x00: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        GET + b"Host: twice\r\n\r\n",
        POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\ngood",
        POST + b"Content-Length: -1\r\n\r\ngood",
        POST + b"Content-Length: 99999999999999999999999999\r\n\r\ngood",
        POST + b"Transfer-Encoding: gzip\r\n\r\ngood",
        POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\ngood",
        POST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\ngood",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=range(14),
)
def test_what_is_not_quite_http_takes_nothing_and_breaks_nothing(
    start: Starter, tmp_path: Path, sent: bytes
):
    _, station = start()
    answer = exchange(tmp_path / "agent.sock", sent)
    statuses = re.findall(rb"HTTP/1\.1 (\d\d\d)", answer)
    assert all(status.startswith(b"4") for status in statuses)
    assert answer.count(b"urn:print-agent:") == len(statuses)
    assert station.intake.known == {}
    assert station.failures == []
    assert health(tmp_path / "agent.sock") == 200


def test_two_lengths_are_one_body_and_no_second_request(start: Starter, tmp_path: Path):
    _, station = start()
    smuggled = b"0\r\n\r\n" + POST + LAST + b"Content-Length: 8\r\n\r\ngood-two"
    sent = POST + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(smuggled)
    exchange(tmp_path / "agent.sock", sent + b"4\r\ngood\r\n" + smuggled)
    # RFC 9112 section 6.1: Transfer-Encoding overrides; what follows is a request of its own, or nothing.
    assert set(station.intake.known) <= {b"good", b"good-two"}
    assert station.failures == []


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(start: Starter, tmp_path: Path):
    _, station = start()
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    sent = POST + LAST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 40 + b"0\r\n\r\n"
    assert b"urn:print-agent:too-large" in exchange(tmp_path / "agent.sock", sent)
    assert station.intake.seen == []


def test_calls_in_one_breath_are_answered_in_their_order(start: Starter, tmp_path: Path):
    _, station = start()
    one = POST + b"Content-Length: 6\r\n\r\n"
    sent = b"".join(one + b"good-%d" % number for number in range(9)) + GET + LAST + b"\r\n"
    answer = exchange(tmp_path / "agent.sock", sent)
    assert answer.count(b"HTTP/1.1 201") == 9
    assert answer.endswith(b"ok\n")
    assert list(station.intake.known) == [b"good-%d" % number for number in range(9)]


def test_events_arrive_and_end_with_the_server(start: Starter, tmp_path: Path):
    server, station = start()
    connection = UnixConnection(tmp_path / "agent.sock")
    connection.request("GET", "/v1/events")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type", "").startswith("text/event-stream")
    assert answer.readline().startswith(b":")
    assert answer.readline() == b"\n"
    station.subscriptions[0].events.put({"type": "job", "job": "job-1", "event": "job-held"})
    assert answer.readline() == b"event: job\n"
    assert json.loads(answer.readline().removeprefix(b"data: "))["job"] == "job-1"
    server.stop()
    answer.read()
    assert station.subscriptions[0].closed
    connection.close()


def test_a_call_under_way_is_answered_before_the_server_ends(start: Starter, tmp_path: Path):
    server, station = start()
    station.intake.wait_for = gate = threading.Event()
    connection = UnixConnection(tmp_path / "agent.sock")
    connection.request("POST", "/v1/messages", body=b"good", headers=JOSE)
    assert station.intake.begun.wait(20)
    ending = threading.Thread(target=server.stop)
    ending.start()
    gate.set()
    assert connection.getresponse().status == 201
    ending.join(20)
    assert not ending.is_alive()
    connection.close()


# Mutual TLS


class Authority:
    """A certificate authority and what it signed, as PEM files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._sign(self.name, self.key, ca=True))

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> bytes:
        now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now.replace(year=2120))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, private = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate.write_bytes(self._sign(subject, key, ca=False))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, private


def authority_settings(ours: Authority) -> HttpAuthoritySettings:
    cert, key = ours.issue("server")
    return HttpAuthoritySettings.model_construct(
        listen=Address("127.0.0.1", 0), cert=cert, key=key, client_ca=ours.file
    )


def client_context(ours: Authority, pair: tuple[Path, Path] | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ours.file))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # our certificates are plain ones
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


def test_mutual_tls_serves_the_authority_s_calls_to_its_certificates_only(
    start: Starter, tmp_path: Path
):
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    server, station = start(authority=authority_settings(ours))
    _, port = server.addresses(Listener.AUTHORITY)[0]

    def connect(pair: tuple[Path, Path] | None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "localhost", port, timeout=20, context=client_context(ours, pair)
        )

    good = connect(ours.issue("client"))
    assert ask(good, "POST", "/v1/messages", body=b"good", headers=JOSE)[0] == 201
    assert ask(good, "GET", "/v1/receipts")[0] == 200
    assert ask(good, "GET", "/healthz")[0] == 200
    assert ask(good, "GET", "/v1/jobs", headers=TOKEN)[0] == 404
    assert ask(good, "GET", "/v1/status")[0] == 404
    good.close()
    for pair in (None, others.issue("stranger")):
        connection = connect(pair)
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.BadStatusLine)):
            ask(connection, "POST", "/v1/messages", body=b"good-2", headers=JOSE)
        connection.close()
    assert list(station.intake.known) == [b"good"]


def test_peers_that_never_finish_their_handshake_give_way(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_connection, "CONNECTIONS_MAX", 4)
    ours = Authority(tmp_path, "ours")
    server, station = start(authority=authority_settings(ours))
    _, port = server.addresses(Listener.AUTHORITY)[0]
    silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(12)]
    context = client_context(ours, ours.issue("client"))
    good = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
    assert ask(good, "POST", "/v1/messages", body=b"good", headers=JOSE)[0] == 201
    with contextlib.suppress(ConnectionResetError):
        assert silent[0].recv(1) == b""
    good.close()
    for line in silent:
        line.close()
    assert station.failures == []


@pytest.mark.parametrize("key", ["cert", "key", "client_ca"])
@pytest.mark.parametrize("content", [None, b"no PEM"])
def test_a_bad_tls_file_is_one_clear_line_and_nothing_listens(
    start: Starter, tmp_path: Path, key: str, content: bytes | None
):
    settings = authority_settings(Authority(tmp_path, "ours"))
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(ConfigurationInvalid, match=r"http\.authority\."):
        start(authority=settings.model_copy(update={key: bad}))
    assert not (tmp_path / "agent.sock").exists()


def test_old_tls_is_not_spoken(tmp_path: Path):
    context = tls_context(authority_settings(Authority(tmp_path, "ours")))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
