"""Keeps a station as this version leaves it: its journal, and what it shows of its jobs; run once for a schema version.

    .venv/bin/python -m tests.upgrades.keep_station

What was kept is never made anew once that version was released: later versions must read it as it is.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

from agent.config import load_settings
from agent.model import PrinterIdentity
from agent.queue import attempts
from agent.queue.migrations import SCHEMA_VERSION
from agent.service import open_journal
from tests.integration.station_fixture import VECTORS, FixedClock, index, prepare, serving

HELD, CANCELED, IN_DOUBT = "valid-mononym", "valid-umlaut-plain", "valid-hyphen"
MESSAGES = ("valid-photo-64", HELD, CANCELED, IN_DOUBT)


def main() -> None:
    """Writes ``vN/journal.db.gz`` and ``vN/jobs.json`` beside this file."""
    clock = FixedClock(index()["now"])
    kept = Path(__file__).parent / f"v{SCHEMA_VERSION}"
    kept.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, clock=clock) as client:
            for message in MESSAGES:
                raw = (VECTORS / "messages" / f"{message}.jws").read_bytes()
                assert client.call("POST", "/v1/messages", raw, kind="application/jose")[0] == 201
            client.post(f"/v1/jobs/{HELD}/hold", {"reason": "kept"})
            client.post(f"/v1/jobs/{CANCELED}/cancel", {"reason": "kept"})
            client.post("/v1/technicians/ani/add", {})
        _put_in_doubt(prepare(folder, 'driver = "virtual"'), clock)
        with serving(folder, clock=clock) as client:
            shown = client.get("/v1/jobs")
        (kept / "jobs.json").write_text(json.dumps(shown, indent=1) + "\n", encoding="utf-8")
        content = (folder / "s" / "journal.db").read_bytes()
        (kept / "journal.db.gz").write_bytes(gzip.compress(content, mtime=0))


def _put_in_doubt(configuration: Path, clock: FixedClock) -> None:
    journal, _ = open_journal(load_settings(configuration), clock=clock)
    identity = PrinterIdentity(serial="SN-1", model="slip")
    journal.write(lambda tx: attempts.select(tx, IN_DOUBT, printer="main"))
    attempt = journal.write(
        lambda tx: attempts.begin_load(
            tx, IN_DOUBT, printer="main", run=1, boot="kept", identity=identity, counter=100
        )
    )
    attempt = journal.write(lambda tx: attempts.prove_load(tx, attempt))
    attempt = journal.write(lambda tx: attempts.commit(tx, attempt, inked_rows=700))
    journal.write(lambda tx: attempts.doubt(tx, attempt, evidence={}, note="kept"))
    journal.close()


if __name__ == "__main__":
    main()
