"""The station's figures in Prometheus' words; no holder data, no job's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest


def exposition(status: Mapping[str, Any]) -> str:
    """The text that Prometheus reads, made of the station's status."""
    registry = CollectorRegistry()
    jobs = Gauge("print_agent_jobs", "Jobs by RFC 8011 state", ["state"], registry=registry)
    for state, count in status["jobs"].items():
        jobs.labels(state).set(count)
    Gauge("print_agent_jobs_need_person", "Jobs that wait for a person", registry=registry).set(
        status["needs_person"]
    )
    Gauge("print_agent_receipts", "Receipts in the chain", registry=registry).set(
        status["receipts"]
    )
    Gauge(
        "print_agent_receipts_acknowledged", "Receipts the authority stored", registry=registry
    ).set(status["acknowledged"])
    conditions = Gauge(
        "print_agent_condition", "Conditions that need a look", ["name"], registry=registry
    )
    for condition in status["conditions"]:
        conditions.labels(condition["name"]).set(1)
    printers = Gauge(
        "print_agent_printer", "Printers by state", ["name", "state"], registry=registry
    )
    reasons = Gauge(
        "print_agent_printer_reason",
        "What a printer waits for",
        ["name", "reason"],
        registry=registry,
    )
    books = Gauge(
        "print_agent_printer_book_in", "Whether a book is in it", ["name"], registry=registry
    )
    for printer in status["printers"]:
        if printer["book_in"] is not None:
            books.labels(printer["name"]).set(printer["book_in"])
        printers.labels(printer["name"], printer["state"]).set(1)
        for reason in printer["reasons"]:
            reasons.labels(printer["name"], reason).set(1)
    return generate_latest(registry).decode()
