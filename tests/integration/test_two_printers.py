"""Two printers at one station: one in doubt or away does not stop the other, and jobs go to any that is ready."""

from __future__ import annotations

import contextlib

import pytest
from printer_bench import BOOKS, FIRST, SECOND
from station_fixture import VECTORS, eventually, serving

from agent import worker
from agent.cli.client import CallFailed
from agent.drivers.virtual.client import spawn

THIRD, THIRD_BOOK = "valid-apostrophe", "P0000010"
BOOK = BOOKS | {THIRD: THIRD_BOOK}
TABLE = 'port = "{port}"\nflow = "none"\nbook_check = "{check}"\noverrides = {{page_seconds = 5.0, reply_seconds = 1.0}}\n'


class Office:
    """The station's client and both printers; the test is the person beside them."""

    def __init__(self, client, printers):
        self.client = client
        self.printers = printers

    def submit(self, *jobs):
        for job in jobs:
            raw = (VECTORS / f"messages/{job}.jws").read_bytes()
            assert self.client.call("POST", "/v1/messages", raw, kind="application/jose")[0] == 201

    def job(self, job):
        return self.client.get(f"/v1/jobs/{job}")

    def becomes(self, job, state, reason=None):
        eventually(
            lambda: (
                (found := self.job(job))["state"] == state
                and (reason is None or reason in found["reasons"])
            ),
            f"{job} does not become {state}",
        )

    def printer_of(self, job):
        """The name of the printer that wants this job's book."""
        found = [one["name"] for one in self.client.get("/v1/printers") if one["job"] == job]
        return found[0] if found else None

    def prints(self, job):
        """Puts the wanted book into the printer that wants it, and takes it out."""
        self.becomes(job, "processing", "book-wanted")
        printer = self.printers[self.printer_of(job)]
        printer.insert(BOOK[job])
        printer.wait_for(lambda state: state.place == "ejected")
        printer.remove()
        self.becomes(job, "completed")
        (ink,) = [one for one in printer.books() if one.number == BOOK[job]]
        assert len(ink.passes) == 1

    def present(self, printer, number):
        def taken():
            with contextlib.suppress(CallFailed):
                return self.client.post(f"/v1/printers/{printer}/book", {"number": number})
            return None

        eventually(taken, f"{number} is not taken at {printer}")


@pytest.fixture(params=["none"])
def office(tmp_path, monkeypatch, request):
    for pause in ("RECONNECT_S", "FAULT_POLL_S", "POLL_S"):
        monkeypatch.setattr(worker, pause, 0.2)
    with contextlib.ExitStack() as stack:
        printers = {}
        for number, name in enumerate(("main", "second")):
            printers[name] = stack.enter_context(
                contextlib.closing(spawn(tmp_path / name, speed=20.0, serial=f"K{number}"))
            )
            stack.callback(printers[name].quit)
        tables = {
            name: TABLE.format(port=printer.port, check=request.param)
            for name, printer in printers.items()
        }
        both = tables["main"] + "[printers.second]\n" + tables["second"]
        yield Office(stack.enter_context(serving(tmp_path, printer=both)), printers)


def test_each_printer_takes_a_job_and_whichever_is_free_takes_the_next(office):
    office.submit(FIRST, SECOND, THIRD)
    office.becomes(FIRST, "processing", "book-wanted")
    office.becomes(SECOND, "processing", "book-wanted")
    assert {office.printer_of(FIRST), office.printer_of(SECOND)} == {"main", "second"}
    assert office.job(THIRD)["state"] == "pending"
    free = office.printer_of(SECOND)
    office.prints(SECOND)
    office.becomes(THIRD, "processing", "book-wanted")
    assert office.printer_of(THIRD) == free
    office.prints(THIRD)
    office.prints(FIRST)


def test_a_printer_in_doubt_and_away_leaves_the_jobs_to_the_other(office):
    office.submit(FIRST, SECOND, THIRD)
    office.becomes(FIRST, "processing", "book-wanted")
    office.becomes(SECOND, "processing", "book-wanted")
    broken = office.printers[office.printer_of(FIRST)]
    name = office.printer_of(FIRST)
    broken.trip_after_rows(20, hang_up=True)
    broken.insert(BOOK[FIRST])
    office.becomes(FIRST, "processing-stopped", "printer-not-clear")
    with pytest.raises(CallFailed, match="may still print"):
        office.client.post(f"/v1/jobs/{FIRST}/resolve", {"outcome": "spoiled", "book": BOOK[FIRST]})
    office.prints(SECOND)
    office.prints(THIRD)
    broken.power_on()
    eventually(lambda: "printer-not-clear" not in office.job(FIRST)["reasons"])
    assert office.job(FIRST)["state"] == "processing-stopped"
    (shown,) = [one for one in office.client.get("/v1/printers") if one["name"] == name]
    assert shown["reasons"] == ["book-removal-wanted"]
    broken.remove()
    office.client.post(f"/v1/jobs/{FIRST}/resolve", {"outcome": "spoiled", "book": BOOK[FIRST]})
    assert office.job(FIRST)["state"] == "aborted"


@pytest.mark.parametrize("office", ["present"], indirect=True)
def test_a_book_is_printed_where_it_was_presented_and_at_one_printer_only(office):
    office.submit(FIRST, SECOND)
    office.present("second", BOOK[FIRST])
    office.becomes(FIRST, "processing", "book-wanted")
    assert office.printer_of(FIRST) == "second"
    with pytest.raises(CallFailed, match="is at printer second"):
        office.client.post("/v1/printers/main/book", {"number": BOOK[FIRST]})
    office.present("main", BOOK[SECOND])
    office.prints(SECOND)
    office.prints(FIRST)


@pytest.mark.parametrize("office", ["present"], indirect=True)
def test_a_job_that_was_presented_at_another_printer_since_is_left_to_it(office):
    main, second = office.printers["main"], office.printers["second"]

    def shown(name):
        return next(one for one in office.client.get("/v1/printers") if one["name"] == name)

    office.submit(FIRST, SECOND)
    eventually(lambda: shown("main")["state"] == shown("second")["state"] == "idle")
    main.insert("X1")
    second.insert("X2")
    office.present("main", BOOK[FIRST])
    office.becomes(FIRST, "processing", "book-removal-wanted")
    main.open_cover()
    office.becomes(FIRST, "pending")
    office.present("second", BOOK[FIRST])
    office.becomes(FIRST, "processing", "book-removal-wanted")
    with pytest.raises(CallFailed, match="is at printer second"):
        office.client.post("/v1/printers/main/book", {"number": BOOK[FIRST]})
    main.close_cover()
    eventually(lambda: (shown("main")["state"], shown("main")["presented"]) == ("idle", None))
    assert shown("main")["job"] is None
    second.remove()
    office.becomes(FIRST, "processing", "book-wanted")
    main.remove()
    eventually(lambda: shown("main")["reasons"] == [])
    assert office.printer_of(FIRST) == "second"
    office.prints(FIRST)
    office.present("second", BOOK[SECOND])
    office.prints(SECOND)
    assert not any(book.inked for book in main.books())
    assert [(book.number, len(book.passes)) for book in second.books() if book.inked] == [
        (BOOK[FIRST], 1),
        (BOOK[SECOND], 1),
    ]


@pytest.mark.parametrize("office", ["present"], indirect=True)
def test_a_book_counts_as_presented_where_it_was_presented_last(office):
    main, second = office.printers["main"], office.printers["second"]

    def shown(name):
        return next(one for one in office.client.get("/v1/printers") if one["name"] == name)

    office.submit(FIRST)
    eventually(lambda: shown("main")["state"] == shown("second")["state"] == "idle")
    for printer, name in ((main, "main"), (second, "second")):
        office.present(name, BOOK[FIRST])
        office.becomes(FIRST, "processing", "book-wanted")
        assert office.printer_of(FIRST) == name
        printer.open_cover()
        office.becomes(FIRST, "pending")
    main.close_cover()
    eventually(lambda: (shown("main")["state"], shown("main")["presented"]) == ("idle", None))
    assert office.job(FIRST)["state"] == "pending"
    second.close_cover()
    office.prints(FIRST)
    assert [book.number for book in second.books() if book.inked] == [BOOK[FIRST]]
