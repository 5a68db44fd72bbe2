"""A printer in an error that takes no more bytes still hears real-time commands: it must not be lost for good."""

from __future__ import annotations

from agent.drivers.book_printer import BookPrinter
from agent.drivers.escpos import FAULTS
from agent.errors import NoAnswer
from tests.simulation.desk import Desk
from tests.simulation.life import profile_of
from tests.simulation.plan import Office, Plan
from tests.simulation.world import World


def test_a_printer_whose_buffer_is_full_and_in_an_error_is_recovered_and_cleared() -> None:
    office = Office(profile="column-slip", buffer_bytes=256)
    world = World(Plan(1, office, ()))
    desk = Desk(world, office)
    desk.printer.jam(world.now)
    desk.printer.receive(bytes(office.buffer_bytes), world.now)
    desk.printer.clear_jam(world.now)
    session = BookPrinter(desk.open(), profile_of(office), lambda: world.now)
    try:
        session.clear()
    except NoAnswer:
        assert session.ask_conditions() & FAULTS
        session.recover()
        session.clear()
    assert not session.ask_conditions() & FAULTS
    session.fence()
