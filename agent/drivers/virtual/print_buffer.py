"""The print buffer: what is drawn, into the page of page mode or into standard mode's line.

Each command gives the movements that it makes the mechanics do at once: none in page mode.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.drivers.virtual.decoder import Command
from agent.drivers.virtual.glyph import GLYPH_WIDTH, glyph
from agent.drivers.virtual.make import PrinterMake
from agent.drivers.virtual.mechanics import Step, StepKind, rows_steps
from agent.drivers.virtual.page_memory import PageMemory

LINES_AN_INCH = 6
FINE_DPI = 144  # from here on a character is drawn with two by two dots

PRINTED = Step(StepKind.PRINTED)
EJECT = Step(StepKind.EJECT)


class PrintBuffer:
    """Line, page, position and units."""

    def __init__(self, make: PrinterMake) -> None:
        self._make = make
        self.initialize()

    def initialize(self) -> None:
        """ESC @."""
        self.clear()
        self._unit_x = self._make.dpi_x
        self._unit_y = self._make.dpi_y
        self._line_height = self._usual_line_height()

    def clear(self) -> None:
        """Nothing drawn, standard mode; the settings stay."""
        self.page: PageMemory | None = None
        self._line: list[int] = []
        self._line_width = 0

    def execute(self, command: Command) -> list[Step]:
        """A command that sets or draws; what this printer does not know does nothing."""
        page = self.page
        match command.opcode:
            case b"\x0a":
                return self._end_line(self._line_height)
            case b"\x1bL" if page is None and not self._line:
                width, height = self._make.width, self._make.height
                self.page = PageMemory(width, height, line_height=self._line_height)
            case b"\x1b3":
                self._line_height = self._dots_y(command.head[2])
            case b"\x1b2":
                self._line_height = self._usual_line_height()
            case b"\x1bJ":
                return self._end_line(self._dots_y(command.head[2]))
            case b"\x1bd":
                return self._end_line(self._line_height * command.head[2])
            case b"\x1bq":
                return [*self._line_steps(), EJECT]
            case b"\x1dP":
                self._unit_x = command.head[2] or self._make.dpi_x
                self._unit_y = command.head[3] or self._make.dpi_y
            case _:
                if page is not None:
                    self._execute_in_page(page, command)
        return []

    def form_feed(self) -> list[Step]:
        """FF: the page, or the line; and the book out."""
        if self.page is None:
            return [*self._line_steps(), PRINTED, EJECT]
        steps = self.page_copy()
        self.page = None
        return [*steps, EJECT]

    def page_copy(self) -> list[Step]:
        """ESC FF: the page, which stays; not beyond its last inked row."""
        if self.page is None:
            return []
        steps = rows_steps(self.page.rows)
        if steps and steps[-1].kind is StepKind.FEED:
            steps.pop()
        return [*steps, PRINTED]

    def raster_row(self, command: Command, data: bytes, index: int) -> list[Step]:
        """One row of GS v 0."""
        width = command.word(4) * 8
        bits = int.from_bytes(data, "big")
        if self.page is not None:
            # Images are anchored by their lower left: the position is the row below the last.
            self.page.draw_row(self.page.y - command.word(6) + index, bits, width=width)
            return []
        return [*self._line_steps(), *rows_steps([self._shifted(bits, 0, width)])]

    def columns(self, command: Command, data: bytes) -> list[Step]:
        """ESC *: 8 or 24 dots a column, each one dot of this printer."""
        bytes_a_column = 3 if command.head[2] in (32, 33) else 1
        rows = []
        for byte in range(bytes_a_column):
            for bit in range(7, -1, -1):
                digits = bytes(0x30 + (value >> bit & 1) for value in data[byte::bytes_a_column])
                rows.append(int(digits, 2))
        return self._draw_cell(rows, command.word(3))

    def character(self, code: int) -> list[Step]:
        """A character, or what stray bytes look like."""
        scale = 2 if self._make.dpi_y >= FINE_DPI else 1
        return self._draw_cell(glyph(code, scale), GLYPH_WIDTH * scale)

    def _execute_in_page(self, page: PageMemory, command: Command) -> None:
        match command.opcode:
            case b"\x18":
                page.clear_area()
            case b"\x1bS":
                self.page = None
            case b"\x1bW":
                left, top = self._dots_x(command.word(2)), self._dots_y(command.word(4))
                width, height = self._dots_x(command.word(6)), self._dots_y(command.word(8))
                if width and height:
                    page.set_area(left, top, width, height)
            case b"\x1b$":
                page.x = self._dots_x(command.word(2))
            case b"\x1d$":
                page.y = self._dots_y(command.word(2))
            case _:
                pass  # settings of characters, directions other than ESC T 0

    def _draw_cell(self, rows: Sequence[int], width: int) -> list[Step]:
        """Puts a cell at the position; a line that is full is printed first."""
        page = self.page
        if page is not None:
            for index, bits in enumerate(rows):
                page.draw_row(page.y - len(rows) + index, bits, width=width)
            page.x += width
            return []
        steps: list[Step] = []
        if self._line_width and self._line_width + width > self._make.width:
            steps = self._end_line(self._line_height)
        for index, bits in enumerate(rows):
            if index == len(self._line):
                self._line.append(0)
            self._line[index] |= self._shifted(bits, self._line_width, width)
        self._line_width += width
        return steps

    def _end_line(self, height: int) -> list[Step]:
        if self.page is not None:
            self.page.x = 0
            self.page.y += height
            return []
        drawn = len(self._line)
        steps = self._line_steps()
        return [*steps, Step(StepKind.FEED, height - drawn)] if height > drawn else steps

    def _line_steps(self) -> list[Step]:
        rows, self._line, self._line_width = self._line, [], 0
        return rows_steps(rows)

    def _shifted(self, bits: int, left: int, width: int) -> int:
        """Dots that begin ``left`` dots from the edge, as a row of the whole width."""
        shift = self._make.width - left - width
        return bits << shift if shift >= 0 else bits >> -shift

    def _usual_line_height(self) -> int:
        return max(self._make.dpi_y // LINES_AN_INCH, 1)

    def _dots_x(self, units: int) -> int:
        return units * self._make.dpi_x // self._unit_x

    def _dots_y(self, units: int) -> int:
        return units * self._make.dpi_y // self._unit_y
