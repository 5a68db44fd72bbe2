"""Who is told of a condition, when, and how often."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading
from pathlib import Path

import pytest
import yaml

from agent.alerts import PATIENCE_S, PAUSE_S, PRINTER_PATIENCE_S, UNSENT, Alerts, Bell
from agent.config import Address, AlertsSettings
from agent.links.metrics import exposition
from agent.live import Condition

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "prometheus/alerts.yml").read_text("utf-8"))["groups"][0]["rules"]

FULL = Condition("disk-full", "free some room")
BATTERY = Condition("on-battery", "the battery lasts 5.0 min")
LEFT = Condition("printer-offline", "left: no such port", about="left")
RIGHT = Condition("printer-offline", "right: no such port", about="right")
DAY_S = 86_400.0


class Clock:
    def __init__(self):
        self.seconds = 1_000.0

    def now(self):
        return 1_893_456_000

    def monotonic(self):
        return self.seconds


def names(conditions):
    return [condition.name for condition in conditions]


# When


def test_a_condition_is_told_once_it_has_stood_a_while_and_so_is_its_end():
    bell = Bell(repeat_s=0)
    assert bell.look([FULL], 0.0) == ([FULL], [])
    assert bell.notice(PATIENCE_S - 1) is None
    notice = bell.notice(PATIENCE_S)
    assert (notice.raised, notice.cleared, notice.standing) == ((FULL,), (), (FULL,))
    bell.told(notice, PATIENCE_S)
    assert bell.look([FULL], DAY_S) == ([], [])
    assert bell.notice(DAY_S) is None
    assert bell.look([], DAY_S) == ([], [FULL])
    notice = bell.notice(DAY_S)
    assert (notice.raised, notice.cleared, notice.standing) == ((), (FULL,), ())
    bell.told(notice, DAY_S)
    assert bell.notice(2 * DAY_S) is None


def test_what_went_before_people_were_told_is_never_told():
    bell = Bell(repeat_s=0)
    bell.look([FULL], 0.0)
    bell.look([], PATIENCE_S - 1)
    assert bell.notice(DAY_S) is None


def test_a_technician_at_the_printer_needs_no_mail_of_its_open_cover():
    bell = Bell(repeat_s=0)
    bell.look([LEFT], 0.0)
    assert bell.notice(PRINTER_PATIENCE_S - 1) is None
    assert bell.notice(PRINTER_PATIENCE_S).raised == (LEFT,)


def test_one_printers_end_does_not_hide_the_others():
    bell = Bell(repeat_s=0)
    bell.look([LEFT, RIGHT], 0.0)
    bell.told(bell.notice(PRINTER_PATIENCE_S), PRINTER_PATIENCE_S)
    bell.look([RIGHT], DAY_S)
    notice = bell.notice(DAY_S)
    assert (notice.cleared, notice.standing) == ((LEFT,), (RIGHT,))


def test_a_power_cut_is_told_at_once_also_right_after_another_message():
    bell = Bell(repeat_s=0)
    bell.look([FULL], 0.0)
    bell.told(bell.notice(PATIENCE_S), PATIENCE_S)
    bell.look([FULL, BATTERY], PATIENCE_S + 1)
    assert bell.notice(PATIENCE_S + 1).raised == (BATTERY,)


def test_a_flapping_condition_is_one_message_a_minute_at_most():
    bell = Bell(repeat_s=0)
    sent = 0
    for second in range(600):
        bell.look([FULL] if second % 2 else [], float(second))
        notice = bell.notice(float(second))
        if notice is not None:
            bell.told(notice, float(second))
            sent += 1
    assert sent <= 600 / PAUSE_S


def test_what_comes_back_before_its_end_was_told_has_never_gone():
    bell = Bell(repeat_s=0)
    bell.look([FULL], 0.0)
    bell.told(bell.notice(PATIENCE_S), PATIENCE_S)
    bell.look([], PATIENCE_S + 1)
    bell.look([FULL], PATIENCE_S + 2)
    assert bell.notice(DAY_S) is None


def test_what_still_stands_is_told_again():
    bell = Bell(repeat_s=DAY_S)
    bell.look([FULL], 0.0)
    bell.told(bell.notice(PATIENCE_S), PATIENCE_S)
    assert bell.notice(DAY_S) is None
    assert bell.notice(PATIENCE_S + DAY_S).raised == (FULL,)


def test_what_ended_while_it_was_told_gets_its_end():
    bell = Bell(repeat_s=0)
    bell.look([FULL], 0.0)
    notice = bell.notice(PATIENCE_S)
    bell.look([], PATIENCE_S)
    bell.told(notice, PATIENCE_S)
    assert bell.notice(PATIENCE_S + PAUSE_S).cleared == (FULL,)


# How


class Relay:
    """Speaks just enough SMTP (RFC 5321); ``refuse`` answers every recipient with that line."""

    def __init__(self):
        self.refuse: bytes | None = None
        self.mails: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listening.getsockname())
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listening.accept()
                with line:
                    self._talk(line)

    def _talk(self, line):
        line.sendall(b"220 relay\r\n")
        with line.makefile("rb") as lines:
            for asked in lines:
                match asked[:4].upper():
                    case b"DATA":
                        line.sendall(b"354 go on\r\n")
                        self.mails.append("".join(iter(lambda: next(lines).decode(), ".\r\n")))
                        line.sendall(b"250 taken\r\n")
                    case b"RCPT" if self.refuse:
                        line.sendall(self.refuse)
                    case b"QUIT":
                        line.sendall(b"221 bye\r\n")
                        return
                    case _:
                        line.sendall(b"250 ok\r\n")

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)


@pytest.fixture
def relay():
    relay = Relay()
    yield relay
    relay.close()


@pytest.fixture
def clock():
    return Clock()


def make(settings, clock, conditions):
    return Alerts("sambas-01", settings, conditions=lambda: conditions, clock=clock)


def test_a_mail_names_the_station_the_condition_and_what_to_do(relay, clock):
    conditions = [BATTERY, FULL]
    settings = AlertsSettings(mail_to=("ops@example.org", "b@example.org"), smtp=relay.address)
    alerts = make(settings, clock, conditions)
    alerts.look()
    (mail,) = relay.mails
    head, _, body = mail.partition("\r\n\r\n")
    assert "Subject: sambas-01: on-battery\r\n" in head
    assert "To: ops@example.org, b@example.org" in head
    assert "Auto-Submitted: auto-generated" in head
    assert body.startswith("! on-battery: the battery lasts 5.0 min")
    assert "- disk-full: free some room" in body
    conditions.clear()
    clock.seconds += PAUSE_S
    alerts.look()
    assert "Subject: sambas-01: on-battery is over" in relay.mails[1]


@pytest.mark.parametrize("fault", ["refused", "nobody"])
def test_a_relay_that_takes_nothing_is_a_condition_and_is_tried_again(relay, clock, fault):
    settings = AlertsSettings(mail_to=("ops@example.org",), smtp=relay.address)
    if fault == "refused":
        relay.refuse = b"550 ERIKSSON\r\n"
    else:
        with socket.create_server(("127.0.0.1", 0)) as free:
            nobody = Address(*free.getsockname())
        settings = settings.model_copy(update={"smtp": nobody})
    alerts = make(settings, clock, [FULL])
    alerts.look()
    clock.seconds += PATIENCE_S
    alerts.look()
    (unsent,) = alerts.conditions()
    assert unsent.name == UNSENT
    assert "ERIKSSON" not in unsent.detail
    relay.refuse = None
    alerts._settings = AlertsSettings(mail_to=("ops@example.org",), smtp=relay.address)
    alerts.look()
    assert relay.mails == []  # not before the pause is over
    clock.seconds += PAUSE_S
    alerts.look()
    assert len(relay.mails) == 1
    assert alerts.conditions() == []


def test_a_command_gets_json_on_its_standard_input(tmp_path, clock):
    told = tmp_path / "told"
    program = (
        f"import sys, pathlib; pathlib.Path({str(told)!r}).write_bytes(sys.stdin.buffer.read())"
    )
    alerts = make(AlertsSettings(command=(sys.executable, "-c", program)), clock, [BATTERY])
    alerts.look()
    assert json.loads(told.read_text()) == {
        "station": "sambas-01",
        "at": clock.now(),
        "raised": [{"name": "on-battery", "about": "", "detail": BATTERY.detail}],
        "cleared": [],
        "standing": [{"name": "on-battery", "about": "", "detail": BATTERY.detail}],
    }


@pytest.mark.parametrize("command", [("/bin/false",), ("/nonexistent/program",)])
def test_a_command_that_fails_is_a_condition(clock, command):
    alerts = make(AlertsSettings(command=command), clock, [BATTERY])
    alerts.look()
    assert names(alerts.conditions()) == [UNSENT]


def test_the_log_is_told_at_once_also_where_nobody_else_is(clock, caplog):
    conditions = [FULL]
    alerts = make(AlertsSettings(), clock, conditions)
    with caplog.at_level("INFO"):
        alerts.look()
        alerts.look()
        conditions.clear()
        alerts.look()
    assert [(r.message, r.condition) for r in caplog.records] == [
        ("condition-raised", "disk-full"),
        ("condition-cleared", "disk-full"),
    ]


def test_a_power_cut_does_not_wait_for_the_next_look(clock):
    looked = threading.Semaphore(0)

    def conditions():
        looked.release()
        return []

    alerts = Alerts("sambas-01", AlertsSettings(), conditions=conditions, clock=clock)
    thread = threading.Thread(target=alerts.run)
    thread.start()
    for _ in range(50):
        alerts.wake()
        assert looked.acquire(timeout=10)
    alerts.stop()
    thread.join(10)
    assert not thread.is_alive()


# Prometheus


STATUS = {
    "station": "sambas-01",
    "jobs": {"pending": 3},
    "needs_person": 1,
    "conditions": [{"name": "on-battery", "detail": "", "about": ""}],
    "receipts": 7,
    "acknowledged": 5,
    "last_receipt_at": 1,
    "oldest_unacknowledged_at": 1,
    "messages_refused": {"malformed": 2},
    "clock_trusted": True,
    "journal_bytes": 1,
    "disk_free_bytes": 1,
    "printers": [{"name": "main", "state": "stopped", "reasons": ["offline"], "book_in": True}],
}


def test_every_metric_that_an_alert_names_is_told_by_the_station():
    told = set(re.findall(r"^(print_agent_\w+)", exposition(STATUS), re.MULTILINE))
    named = set(re.findall(r"print_agent_\w+", json.dumps(RULES)))
    assert named <= told
    assert len(named) >= 10


def test_every_condition_that_an_alert_names_is_one_of_the_stations():
    source = "".join(file.read_text("utf-8") for file in (ROOT / "agent").rglob("*.py"))
    for rule in RULES:
        for _, names in re.findall(r'\b(name|reason)=~?"([^"]+)"', rule["expr"]):
            for name in names.split("|"):
                assert f'"{name}"' in source, name


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "action"}


def test_the_figures_are_those_of_the_status():
    lines = exposition(STATUS).splitlines()
    for line in (
        'print_agent_jobs{state="pending"} 3.0',
        "print_agent_jobs_need_person 1.0",
        "print_agent_receipts_unacknowledged 2.0",
        "print_agent_oldest_unacknowledged_receipt_timestamp_seconds 1.0",
        'print_agent_messages_refused_total{problem="malformed"} 2.0',
        "print_agent_clock_trusted 1.0",
        "print_agent_on_battery 1.0",
        "print_agent_battery_low 0.0",
        'print_agent_printer{name="main",state="stopped"} 1.0',
        'print_agent_printer_reason{name="main",reason="offline"} 1.0',
        'print_agent_printer_book_in{name="main"} 1.0',
    ):
        assert line in lines
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)
