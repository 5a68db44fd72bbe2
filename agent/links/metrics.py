"""The station's figures in Prometheus' words; no holder data, no job's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent import __version__


def exposition(status: Mapping[str, Any]) -> str:
    """The text that Prometheus reads, made of the station's status."""
    registry = CollectorRegistry()
    registry.register(_Figures(status))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


class _Figures(Collector):
    """The status as metrics."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        conditions = {condition["name"] for condition in status["conditions"]}
        about = {"station": status["station"], "version": __version__}
        yield _family("info", "The station and its version", [(about, 1)])
        yield _family(
            "jobs",
            "Jobs by RFC 8011 state",
            [({"state": state}, count) for state, count in status["jobs"].items()],
        )
        yield _figure("jobs_need_person", "Jobs that wait for a person", status["needs_person"])
        yield from self._receipts()
        refused = CounterMetricFamily(
            "print_agent_messages_refused",
            "Messages refused since the start, by problem",
            labels=["problem"],
        )
        for problem, count in status["messages_refused"].items():
            refused.add_metric([problem], count)
        yield refused
        yield _figure("clock_trusted", "Whether the clock is trusted", status["clock_trusted"])
        yield _figure("on_battery", "Whether the power is cut", "on-battery" in conditions)
        yield _figure("battery_low", "Whether the battery is low", "battery-low" in conditions)
        yield _figure("journal_bytes", "Size of the journal", status["journal_bytes"])
        yield _figure("disk_free_bytes", "Room on the journal's disk", status["disk_free_bytes"])
        yield _family(
            "condition",
            "Conditions that need a look",
            [({"name": name}, 1) for name in sorted(conditions)],
        )
        yield from self._printers()

    def _receipts(self) -> Iterator[Metric]:
        status = self._status
        yield _figure("receipts", "The last receipt's seq", status["receipts"])
        yield _figure(
            "receipts_acknowledged",
            "The last receipt's seq that the authority stored",
            status["acknowledged"],
        )
        yield _figure(
            "receipts_unacknowledged",
            "Receipts that the authority has not acknowledged",
            max(status["receipts"] - status["acknowledged"], 0),
        )
        for name, told, moment in (
            ("last_receipt", "When the last receipt was written", status["last_receipt_at"]),
            (
                "oldest_unacknowledged_receipt",
                "When the oldest receipt was written that the authority has not acknowledged",
                status["oldest_unacknowledged_at"],
            ),
        ):
            if moment is not None:
                yield _figure(f"{name}_timestamp_seconds", told, moment)

    def _printers(self) -> Iterator[Metric]:
        printers = self._status["printers"]
        yield _family(
            "printer",
            "Printers by state",
            [({"name": each["name"], "state": each["state"]}, 1) for each in printers],
        )
        yield _family(
            "printer_reason",
            "What a printer waits for",
            [
                ({"name": each["name"], "reason": reason}, 1)
                for each in printers
                for reason in each["reasons"]
            ],
        )
        yield _family(
            "printer_book_in",
            "Whether a book is in it",
            [
                ({"name": each["name"]}, each["book_in"])
                for each in printers
                if each["book_in"] is not None
            ],
        )


def _figure(name: str, told: str, value: float) -> Metric:
    return _family(name, told, [({}, value)])


def _family(name: str, told: str, rows: list[tuple[dict[str, str], float]]) -> Metric:
    labels = list(rows[0][0]) if rows else []
    family = GaugeMetricFamily(f"print_agent_{name}", told, labels=labels)
    for values, value in rows:
        family.add_metric(list(values.values()), float(value))
    return family
