"""P5: nothing of a holder is met in clear, on disk, in logs, answers or process lists, at any moment, a crash included."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from holder_data import Search, forms, secrets_of
from station_fixture import ABSENT, VECTORS, await_healthy, index, prepare, start_process
from test_printing import BOOK, JOB, Office

from agent.cli.client import CallFailed, Client
from agent.config import load_settings
from agent.crypto import jose
from agent.crypto.documents import open_document
from agent.crypto.keys import load_station_keys
from agent.drivers.profile import load_profile
from agent.model import BookEntry, TravelDocument
from agent.page.layout import compose

PHOTO = "photo:"


def document_of(name: str, configuration: Path) -> TravelDocument:
    """What a vector's first book holds."""
    payload = (VECTORS / f"messages/{name}.jws").read_bytes().split(b".")[1]
    entry = jose.parse_object(jose.decode_base64url(payload))["books"][0]
    keys = load_station_keys(load_settings(configuration).keys.station)
    return open_document(BookEntry(entry["number"], entry["document"]), keys)


def search_for(name: str, configuration: Path) -> Search:
    document = document_of(name, configuration)
    profile = load_profile("page-slip", {})
    size = {"width": profile.width, "height": profile.height}
    raster = compose(document, dpi_x=profile.dpi_x, dpi_y=profile.dpi_y, **size, specimen=True)
    return Search(secrets_of(document, raster))


def test_the_search_meets_what_hides(tmp_path):
    for secret in ("UJICOBA WAN", b"\xff\xd8\xff\xe0JFIF\x00\x01\x99\x98\x97"):
        for name, form in forms(secret).items():
            (tmp_path / "file").write_bytes(b"x" + form + b"x")
            search = Search([secret])
            search.look_below(tmp_path)
            assert [met for met in search.met if met[0] == "file"], name
    for shift in range(3):
        carried = base64.b64encode(b"x" * shift + b'{"name": "UJICOBA WAN"}').rstrip(b"=")
        search = Search(["UJICOBA WAN"])
        search.look("carried", carried)
        assert search.met
    search = Search(["UJICOBA WAN"])
    search.look("nothing", b"UJICOBA-WAN" + base64.b64encode(b"UJICOBA VAN"))
    assert search.met == []


def all_secrets() -> set[bytes | str]:
    """What the contract's index says must be met nowhere."""
    found: set[bytes | str] = set(index()["batch"]["secrets"])
    for vector in index()["vectors"]:
        for secret in vector.get("secrets", []):
            if secret.startswith(PHOTO):
                found.add(base64.b64decode(secret.removeprefix(PHOTO)))
            else:
                found.add(secret)
    return found


CALLS = [
    "/v1/status",
    "/v1/jobs",
    "/v1/printers",
    "/v1/receipts?limit=1000",
    "/metrics",
    "/openapi.json",
    "/v1/technicians",
]


def test_every_vector_goes_through_a_station_and_leaves_nothing_in_clear(tmp_path):
    configuration = prepare(tmp_path, ABSENT)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    search = Search(all_secrets())
    environment = os.environ | {"TMPDIR": str(scratch)}
    process = start_process(configuration, environment=environment)
    client = Client(load_settings(configuration).http.socket)
    await_healthy(client)
    bad_documents = [
        vector["file"]
        for vector in index()["vectors"]
        if vector["type"] == "urn:print-agent:bad-document"
    ]
    inbox = tmp_path / "s" / "inbox"
    for number, file in enumerate(bad_documents):
        # Refused by the other door too; a name of its own, so that nothing is known by it.
        (scratch / "part").write_bytes((VECTORS / file).read_bytes())
        (scratch / "part").rename(inbox / f"{number}.jws")
    for vector in index()["vectors"]:
        if vector["group"] == "main":
            raw = (VECTORS / vector["file"]).read_bytes()
            answer = client.call("POST", "/v1/messages", raw, kind="application/jose")
            search.look(vector["name"], answer[1])
    zone = next(vector["mrz"] for vector in index()["vectors"] if vector["name"] == JOB)
    for lines in (zone, ["P<UTO" + "X" * 39, "X" * 44], zone[:1], "nonsense", [zone[0] * 9, 7]):
        body = json.dumps({"mrz": lines}).encode()
        status, answer = client.call("POST", f"/v1/jobs/{JOB}/verify", body)
        assert status in (400, 409)
        search.look("verify", answer)
    wrong = subprocess.run(
        [sys.executable, "-m", "agent", "verify", JOB, "--mrz", "-", "--config", configuration],
        input="\n".join(zone) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert wrong.returncode == 1
    search.look("the command", (wrong.stdout + wrong.stderr).encode())
    for call in CALLS:
        status, answer = client.call("GET", call)
        assert status == 200
        search.look(call, answer)
    while any(path.suffix == ".jws" for path in inbox.iterdir()):
        await_healthy(client)
    assert len(list((inbox / "refused").iterdir())) == 2 * len(bad_documents)
    search.look_at_processes()
    search.look_below(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    search.look_below(tmp_path)
    assert list(scratch.iterdir()) == []
    assert search.looked_at > 1_000_000
    assert search.met == []


# A crash with the holder's page in the hand

CRASHES = {
    "an exception that names the holder": (
        'raise ValueError(f"{[getattr(document, name) for name in document.__slots__]}")'
    ),
    "an exception of a library, chained": (
        "try:\n    int(document.primary_identifier)\n"
        "except ValueError as error:\n    raise RuntimeError(repr(document.mrz)) from error"
    ),
    "SIGABRT": "os.abort()",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL); signal.pause()",
    "threads and log lines that nobody foresaw": (
        "thread = threading.Thread(target=int, args=(document.mrz[0],))\n"
        "thread.start(); thread.join()\n"
        "try:\n    int(document.primary_identifier)\n"
        'except ValueError:\n    logging.getLogger("library").exception("it broke")\n'
        "class Falling:\n    def __del__(self):\n        int(document.place_of_birth)\n"
        "falling = Falling()\ndel falling\n"
        "os.abort()"
    ),
}
# The command with its composer replaced: the page is drawn, then the process breaks with it in its memory.
BREAKING = """
import logging, os, signal, sys, threading
import agent.composer
real = agent.composer.compose
def compose(document, **more):
    raster = real(document, **more)
{crash}
agent.composer.compose = compose
from agent.cli import main
sys.exit(main())
"""


def start_broken(configuration: Path, crash: str) -> subprocess.Popen[bytes]:
    """The station as a process that may leave a core as large as it likes, in its folder."""
    folder = configuration.parent
    script = folder / "breaking.py"
    script.write_text(BREAKING.format(crash=textwrap.indent(crash, "    ")), encoding="utf-8")
    shell = ["sh", "-c", 'ulimit -c unlimited 2>/dev/null; exec "$@"', "sh"]
    command = [sys.executable, str(script), "run", "--config", str(configuration)]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [*shell, *command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def assert_nothing_is_left(search: Search, folder: Path) -> None:
    search.look_below(folder, but="virtual")
    assert list(folder.glob("core*")) == []
    assert search.looked_at > 100_000
    assert search.met == []
    log = (folder / "log").read_text(encoding="utf-8")
    assert "Traceback" not in log


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_while_a_page_is_drawn_leaves_nothing_in_clear(tmp_path, crash):
    configuration = prepare(tmp_path, ABSENT)
    search = search_for(JOB, configuration)
    process = start_broken(configuration, CRASHES[crash])
    client = Client(load_settings(configuration).http.socket)
    await_healthy(client)
    raw = (VECTORS / f"messages/{JOB}.jws").read_bytes()
    assert client.call("POST", "/v1/messages", raw, kind="application/jose")[0] == 201
    try:
        search.look("preview", client.call("GET", f"/v1/jobs/{JOB}/preview.png")[1])
    except CallFailed as error:
        search.look("preview", str(error).encode())
    assert process.wait(30) != 0
    assert_nothing_is_left(search, tmp_path)


@pytest.fixture
def office(tmp_path):
    office = Office(tmp_path)
    yield office
    office.end()


def test_a_crash_in_the_printer_s_thread_leaves_nothing_in_clear(office):
    search = search_for(JOB, office.configuration)
    crash = CRASHES["an exception of a library, chained"]
    office.process = start_broken(office.configuration, crash)
    await_healthy(office.client)
    office.submit()
    with contextlib.suppress(CallFailed):  # it ends while this asks
        office.wait_for(lambda: presented(office, search) or office.process.poll() is not None)
    assert office.process.wait(30) == 1
    assert_nothing_is_left(search, office.configuration.parent)
    office.start()


def presented(office: Office, search: Search) -> bool:
    try:
        office.client.post("/v1/printers/main/book", {"number": BOOK})
    except CallFailed as error:
        search.look("present", str(error).encode())
        return False
    return True


def test_a_printed_job_leaves_nothing_in_clear_but_in_its_book(office):
    folder = office.configuration.parent
    search = search_for(JOB, office.configuration)
    office.start()
    office.submit()
    assert office.client.call("GET", f"/v1/jobs/{JOB}/preview.png")[0] == 200
    office.present()
    office.wait_for(lambda: office.printer.state().printing)
    search.look_below(folder, but="virtual")
    search.look_at_processes()
    office.wait_for(lambda: office.job()["state"] == "completed")
    for call in CALLS:
        search.look(call, office.client.call("GET", call)[1])
    office.kill()
    search.look_below(folder, but="virtual")
    assert search.met == []
    office.start()
