"""The power is cut: a real upsd (Debian's nut-server) tells of a simulated UPS (its dummy-ups driver)."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from station_fixture import eventually
from test_printing import BOOK, Office

from agent.cli.client import CallFailed
from agent.errors import JournalDamaged
from agent.ups import Ups
from agent.verification import verify_journal

PROGRAMS = Path("/lib/nut")
MAINS = "OL"
LONG, SHORT = 900, 150  # seconds of runtime; NUT calls the battery low at 120


class PowerSupply:
    """upsd and the driver, with what the UPS says in a file that the driver reads again when it changed.

    The driver of NUT 2.8.0 compares whole seconds: what is said twice within one needs a later one by hand.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said_at = itertools.count()  # seconds since 1970: any will do, if it is another one
        folder.mkdir(mode=0o700)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        for name, text in {
            "ups.conf": "[desk]\n driver = dummy-ups\n port = desk.dev\n mode = dummy-once\n pollinterval = 1\n",
            "upsd.conf": f"LISTEN 127.0.0.1 {self.port}\nMAXAGE 15\n",
            "upsd.users": "",
        }.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        self.says(MAINS)
        self.server = self._start("upsd")
        self.driver: subprocess.Popen[bytes] | None = None
        self.ups = Ups("desk", ("127.0.0.1", self.port))

    def be_on_mains(self) -> None:
        """As a test finds it, whatever the one before did."""
        self.says(MAINS)
        if self.driver is None:
            self.driver = self._start("dummy-ups", "-a", "desk")
        eventually(lambda: self._answers(MAINS), "upsd does not answer; is nut-server installed?")

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        user = ("-u", "root") if os.geteuid() == 0 else ()
        places = ("NUT_CONFPATH", "NUT_STATEPATH", "NUT_ALTPIDPATH")
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [PROGRAMS / program, *arguments, *user, "-F"],
                env=os.environ | dict.fromkeys(places, str(self.folder)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _answers(self, status: str) -> bool:
        self.ups.look()
        return self.ups._supply is not None and self.ups._supply.status == set(status.split())

    def says(self, status: str, runtime_s: int = LONG) -> None:
        """What the UPS says from now on."""
        new = self.folder / "new"
        new.write_text(
            f"ups.status: {status}\nbattery.runtime: {runtime_s}\nbattery.runtime.low: 120\n"
        )
        os.utime(new, (0, next(self.said_at)))
        new.rename(self.folder / "desk.dev")

    def lose_driver(self) -> None:
        """upsd goes on and says that it knows nothing fresh."""
        assert self.driver is not None
        self.driver.kill()
        self.driver.wait(10)
        self.driver = None

    def end(self) -> None:
        self.ups.hang_up()
        for process in filter(None, (self.driver, self.server)):
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="module")
def power(tmp_path_factory):
    supply = PowerSupply(tmp_path_factory.mktemp("power") / "nut")
    yield supply
    supply.end()


@pytest.fixture
def supply(power):
    power.be_on_mains()
    return power


@pytest.fixture
def office(tmp_path, supply):
    office = Office(tmp_path)
    with office.configuration.open("a") as file:
        file.write(f'\n[ups]\nname = "desk"\nupsd = "127.0.0.1:{supply.port}"\n')
    office.start()
    office.submit()
    yield office
    office.end()


def conditions(office):
    return {each["name"] for each in office.client.get("/v1/status")["conditions"]}


def printer(office):
    (view,) = office.client.get("/v1/printers")
    return view


def test_on_battery_no_book_is_begun_that_may_not_finish_and_on_return_it_goes_on_by_itself(
    office, supply
):
    # The page lies in the printer, nobody puts the book in, the power fails.
    office.printer.set_speed(1.0)
    office.present()
    office.wait_for(lambda: office.job()["state"] == "processing")
    supply.says("OB DISCHRG", SHORT)
    office.wait_for(lambda: printer(office)["reasons"] == ["on-battery"])
    assert office.job()["state"] == "pending"
    assert "printer-stopped" in office.job()["reasons"]
    assert "on-battery" in conditions(office)
    assert office.ink() == []
    # What was presented is still presented: nobody needs to do anything.
    assert printer(office)["presented"] == BOOK
    office.printer.set_speed(20.0)
    supply.says(MAINS)
    office.wait_for(lambda: office.job()["state"] == "completed")
    assert "on-battery" not in conditions(office)
    (book,) = office.ink()
    assert len(book.passes) == 1


def test_a_battery_that_lasts_long_enough_prints(office, supply):
    supply.says("OB DISCHRG", LONG)
    office.wait_for(lambda: "on-battery" in conditions(office))
    office.present()
    office.wait_for(lambda: office.job()["state"] == "completed")


def test_at_low_battery_the_book_under_way_is_finished_and_then_all_is_at_rest(
    office, supply, tmp_path
):
    office.present()
    office.wait_for(lambda: office.printer.state().printing)
    supply.says("OB LB", 60)
    office.wait_for(lambda: "battery-low" in conditions(office))
    office.wait_for(lambda: office.job()["state"] == "completed")
    office.wait_for(lambda: printer(office)["reasons"] == ["on-battery"])
    # At rest everything is in the database itself: without its log it is whole, up to the last receipt.
    last = office.client.get("/v1/status")["receipts"]

    def whole_without_its_log():
        copy = tmp_path / "copy.db"
        copy.unlink(missing_ok=True)
        shutil.copyfile(office.settings.journal_path, copy)
        try:
            report = verify_journal(copy, station_id="sambas-01", authority_id="imigrasi-jakarta")
        except JournalDamaged:
            return False  # the second after the last commit is not over
        return report.faults == () and report.receipts == last

    office.wait_for(whole_without_its_log)


def test_a_ups_that_falls_silent_on_battery_does_not_become_mains_power(office, supply):
    supply.says("OB DISCHRG", LONG)
    office.wait_for(lambda: "on-battery" in conditions(office))
    supply.lose_driver()
    office.wait_for(lambda: "ups-silent" in conditions(office))
    office.wait_for(lambda: printer(office)["reasons"] == ["on-battery"])
    assert "on-battery" in conditions(office)
    with pytest.raises(CallFailed, match="no book is begun"):
        office.client.post("/v1/printers/main/book", {"number": BOOK})
    assert office.job()["state"] == "pending"
