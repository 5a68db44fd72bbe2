"""Each step of the attempt killed, and the faults of the machine: a clear word, nothing lost, nothing twice."""

from __future__ import annotations

import pytest
from station_fixture import ABSENT, eventually, serving
from test_printing import BOOK, JOB, Office

from agent.cli.client import CallFailed


@pytest.fixture
def office(tmp_path):
    office = Office(tmp_path)
    yield office
    office.end()


def stopped(office, place):
    """Puts the office where the attempt stands at that place."""
    office.printer.set_speed(5.0)
    office.start()
    office.submit()
    office.present()
    match place:
        case "presented":
            return
        case "loading":
            office.wait_for(
                lambda: (
                    office.printer.state().received_size
                    or office.printer.state().mode != "standard"
                )
            )
        case "loaded":
            office.wait_for(lambda: "book-wanted" in office.job()["reasons"])
        case "book-in":
            office.wait_for(lambda: office.printer.state().book is not None)
        case "first-row":
            office.wait_for(lambda: office.printer.state().printing)
        case "printed":
            office.wait_for(lambda: office.job()["state"] == "completed")


@pytest.mark.parametrize(
    "place", ["presented", "loading", "loaded", "book-in", "first-row", "printed"]
)
def test_killed_at_each_step_never_inks_a_book_twice_and_never_loses_the_job(office, place):
    stopped(office, place)
    office.kill()
    office.printer.set_speed(20.0)
    office.start()
    office.wait_for(lambda: office.job()["state"] != "processing")
    if office.job()["state"] == "processing-stopped":
        office.wait_for(lambda: "printer-not-clear" not in office.job()["reasons"])
        outcome = "printed" if office.ink() else "blank"
        office.client.post(f"/v1/jobs/{JOB}/resolve", {"outcome": outcome, "book": BOOK})
    if office.job()["state"] == "pending":
        assert office.ink() == []
        office.present()
        office.wait_for(lambda: office.job()["state"] == "completed")
    assert office.job()["state"] == "completed"
    (book,) = office.ink()
    assert len(book.passes) == 1
    assert office.verify().faults == ()


def test_a_port_that_does_not_exist_is_one_stopped_printer_and_messages_are_taken(tmp_path):
    with serving(tmp_path, printer=ABSENT) as client:
        eventually(lambda: "/nonexistent/printer" in client.get("/v1/printers")[0]["detail"])
        (printer,) = client.get("/v1/printers")
        assert printer["state"] == "stopped"
        assert "offline" in printer["reasons"]
        with pytest.raises(CallFailed, match="is away"):
            client.post("/v1/printers/main/book", {"number": BOOK})


def test_wrong_calls_are_problems_with_a_name(tmp_path):
    with serving(tmp_path) as client:
        for call, status in (
            (("POST", "/v1/messages", b"x" * (2 * 1024 * 1024 + 9_000)), 413),
            (("POST", "/v1/messages", b"garbage"), 400),
            (("GET", "/v1/jobs/none", None), 404),
            (("GET", "/v1/jobs?state=odd", None), 400),
            (("GET", "/v1/receipts?limit=0", None), 400),
            (("DELETE", "/v1/jobs", None), 405),
        ):
            found, body = client.call(*call, kind="application/jose")
            assert (found, b"urn:print-agent:" in body) == (status, True), call[:2]
