"""What differs between one virtual printer and another: data, not subclasses."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Any


class PrinterKind(enum.StrEnum):
    """The two languages of CONTRACT section 8, named like their profiles."""

    PAGE_SLIP = "page-slip"
    COLUMN_SLIP = "column-slip"


class CounterKept(enum.StrEnum):
    """What becomes of the counter of inked rows at power-off."""

    LOST = "lost"
    DURABLE = "durable"  # saved before its row is inked
    UNKNOWN = "unknown"  # saved now and then


class CompletionMoment(enum.StrEnum):
    """When a process ID whose related data is a page falls due."""

    PRINTED = "printed"  # after the last row, before the book is ejected
    EJECTED = "ejected"


class FlowControl(enum.StrEnum):
    """How the printer stops the host; with ``NONE`` the line stalls (a pty has no modem lines)."""

    NONE = "none"
    XONXOFF = "xonxoff"


@dataclass(frozen=True, slots=True)
class PrinterMake:
    """One make of printer. Lengths in dots, times in seconds.

    Attributes:
        bytes_per_second: how fast commands are taken from the receive buffer, ``inf``: at once.
        row_seconds: the time to ink one row.
        feed_seconds: the time to feed over one white row.
        eject_seconds: the time to put the book out.
        start_seconds: how long after power-on no byte is taken.
        automatic_status_mask: the ``GS a`` setting after power-on (a DIP switch on some printers).
        counter_save_rows: with a counter of the kind ``unknown``, it is saved every so many rows.
    """

    kind: PrinterKind
    dpi_x: int
    dpi_y: int
    width: int
    height: int
    model_id: int
    model_name: str
    serial: str = "VIRTUAL0001"
    firmware: str = "1.00"
    maker: str = "VIRTUAL"
    counter_kept: CounterKept = CounterKept.LOST
    counter_save_rows: int = 64
    completion_moment: CompletionMoment = CompletionMoment.PRINTED
    flow: FlowControl = FlowControl.NONE
    receive_buffer_size: int = 4096
    transmit_buffer_size: int = 4096
    bytes_per_second: float = 11_520.0  # a serial line at 115,200 baud
    row_seconds: float = 0.01
    feed_seconds: float = 0.001
    eject_seconds: float = 0.5
    start_seconds: float = 0.0
    automatic_status_mask: int = 0

    @property
    def page_language(self) -> bool:
        """Whether it knows GS ( H, DLE DC4 fn 8, GS g, GS v 0 and the text answers of GS I."""
        return self.kind is PrinterKind.PAGE_SLIP


# TD3, 125 x 88 mm, at 180 x 180 and 80 x 72 dots an inch (CONTRACT section 8).
_MAKES = {
    PrinterKind.PAGE_SLIP: PrinterMake(
        kind=PrinterKind.PAGE_SLIP,
        dpi_x=180,
        dpi_y=180,
        width=886,
        height=624,
        model_id=0x21,
        model_name="VIRTUAL PAGE SLIP",
    ),
    PrinterKind.COLUMN_SLIP: PrinterMake(
        kind=PrinterKind.COLUMN_SLIP,
        dpi_x=80,
        dpi_y=72,
        width=394,
        height=249,
        model_id=0x02,
        model_name="VIRTUAL COLUMN SLIP",
    ),
}


def printer_make(kind: PrinterKind | str, **changes: Any) -> PrinterMake:
    """The usual make of a kind, changed: ``printer_make("page-slip", counter_kept="durable")``."""
    if "counter_kept" in changes:
        changes["counter_kept"] = CounterKept(changes["counter_kept"])
    if "completion_moment" in changes:
        changes["completion_moment"] = CompletionMoment(changes["completion_moment"])
    if "flow" in changes:
        changes["flow"] = FlowControl(changes["flow"])
    return replace(_MAKES[PrinterKind(kind)], **changes)
