"""The commands of CONTRACT section 6; each is thin."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.client import Client, part
from agent.cli.journal_view import JournalView
from agent.errors import PrintAgentError

app = typer.Typer(
    name="print-agent",
    no_args_is_help=True,
    add_completion=False,
    help="Prints passport books: none lost, none twice.",
)
journal_app = typer.Typer(no_args_is_help=True, help="The journal on disk.")
keys_app = typer.Typer(no_args_is_help=True, help="The station's keys.")
technician_app = typer.Typer(no_args_is_help=True, help="Who may call over TCP.")
printer_app = typer.Typer(no_args_is_help=True, help="One printer.")
clock_app = typer.Typer(no_args_is_help=True, help="The station's clock.")
for name, group in (
    ("journal", journal_app),
    ("keys", keys_app),
    ("technician", technician_app),
    ("printer", printer_app),
    ("clock", clock_app),
):
    app.add_typer(group, name=name)

Config = Annotated[Path | None, typer.Option("--config", help="station.toml", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="machine-readable")]
Reason = Annotated[str, typer.Option("--reason", help="why, for the receipt")]
OptionalReason = Annotated[str | None, typer.Option("--reason", help="why, for the receipt")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="the job's id")]


def main() -> int:
    """Runs the command; gives the exit code."""
    from agent.cli.authority import authority_app

    app.add_typer(authority_app, name="authority")
    try:
        app(standalone_mode=False)
    except typer.Exit as leave:
        return int(leave.exit_code)
    except PrintAgentError as error:
        sys.stderr.write(f"print-agent: {error}\n")
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        sys.stderr.write(f"print-agent: {error.filename or 'the system'}: {error.strerror}\n")
        return 1
    except Exception as error:
        # Wrong usage is the library's own error type, which knows how to show itself.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        return 2
    return 0


def _settings(config: Path | None) -> Any:
    from agent.config import load_settings

    return load_settings(config)


def _client(config: Path | None) -> Client:
    return Client(_settings(config).http.socket)


def _view(config: Path | None) -> Client | JournalView:
    """The running agent, or the journal while it does not run."""
    settings = _settings(config)
    client = Client(settings.http.socket)
    if settings.http.socket.is_socket():
        try:
            client.call("GET", "/healthz")
        except PrintAgentError:
            pass
        else:
            return client
    sys.stderr.write("print-agent: the agent does not run; this is what the journal says\n")
    return JournalView(settings)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _table(columns: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[index]) for row in [columns, *rows]) for index in range(len(columns))]
    for row in [columns, *rows]:
        sys.stdout.write(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            + "\n"
        )


def _show_jobs(found: list[dict[str, Any]]) -> None:
    if not found:
        sys.stdout.write("no jobs\n")
        return
    rows = [
        [
            job["id"],
            job["state"],
            ",".join(job["reasons"]) or "-",
            job["book"],
            str(job["priority"]),
            job["application"] or "-",
        ]
        for job in found
    ]
    _table(["JOB", "STATE", "REASONS", "BOOK", "PRIORITY", "APPLICATION"], rows)


@app.command()
def run(config: Config = None) -> None:
    """Runs the station until it is told to stop."""
    from agent.service import run as run_service

    raise typer.Exit(run_service(_settings(config)))


@app.command()
def status(config: Config = None, as_json: Json = False) -> None:
    """Counts, conditions, and when the waiting books will be printed."""
    found = _view(config).get("/v1/status")
    if as_json:
        _print_json(found)
        return
    counts = (
        ", ".join(f"{count} {state}" for state, count in found["jobs"].items() if count)
        or "no jobs"
    )
    sys.stdout.write(f"station {found['station']}: {counts}\n")
    for printer in found["printers"]:
        sys.stdout.write(
            f"printer {printer['name']}: {printer['state']} {' '.join(printer['reasons'])}\n"
        )
    if found["expected_finish"]:
        import datetime

        moment = datetime.datetime.fromtimestamp(found["expected_finish"]).astimezone()
        sys.stdout.write(f"expected finish: {moment:%Y-%m-%d %H:%M}\n")
    for condition in found["conditions"]:
        sys.stdout.write(f"! {condition['name']}: {condition['detail']}\n")


@app.command()
def jobs(
    config: Config = None,
    state: Annotated[str | None, typer.Option(help="only these")] = None,
    as_json: Json = False,
) -> None:
    """The jobs, in the order of acceptance."""
    query = f"?state={part(state)}" if state else ""
    view = _view(config)
    found: list[dict[str, Any]] = []
    while True:
        after = f"{'&' if query else '?'}after={part(found[-1]['id'])}" if found else ""
        page = view.get(f"/v1/jobs{query}{after}")
        found += page
        if len(page) < 1000:
            break
    _print_json(found) if as_json else _show_jobs(found)


@app.command()
def job(job_id: JobId, config: Config = None, as_json: Json = False) -> None:
    """One job."""
    found = _view(config).get(f"/v1/jobs/{part(job_id)}")
    _print_json(found) if as_json else _show_jobs([found])


def _act(config: Path | None, job_id: str, act: str, body: dict[str, Any]) -> None:
    given = {name: value for name, value in body.items() if value is not None}
    _show_jobs([_client(config).post(f"/v1/jobs/{part(job_id)}/{act}", given)])


@app.command()
def cancel(job_id: JobId, reason: Reason, config: Config = None) -> None:
    """Ends a job that has no ink."""
    _act(config, job_id, "cancel", {"reason": reason})


@app.command()
def hold(job_id: JobId, reason: OptionalReason = None, config: Config = None) -> None:
    """Holds a job."""
    _act(config, job_id, "hold", {"reason": reason})


@app.command()
def release(job_id: JobId, reason: OptionalReason = None, config: Config = None) -> None:
    """Ends a technician's hold."""
    _act(config, job_id, "release", {"reason": reason})


@app.command()
def replay(job_id: JobId, reason: OptionalReason = None, config: Config = None) -> None:
    """Returns a set-aside job to the queue, where no book can have ink."""
    _act(config, job_id, "replay", {"reason": reason})


@app.command()
def resolve(
    job_id: JobId,
    outcome: Annotated[
        str, typer.Option(help="printed, blank or spoiled: what the book in the hand is")
    ],
    book: Annotated[str, typer.Option(help="the number of the book in the hand")],
    attempt: Annotated[int | None, typer.Option(help="the attempt in doubt")] = None,
    reason: OptionalReason = None,
    config: Config = None,
) -> None:
    """Says what the book of a stopped job is."""
    _act(
        config,
        job_id,
        "resolve",
        {"outcome": outcome, "book": book, "attempt": attempt, "reason": reason},
    )


@app.command()
def verify(
    job_id: JobId,
    mrz: Annotated[str, typer.Option(help="-: two lines on standard input")],
    config: Config = None,
) -> None:
    """Reads a printed book's machine-readable zone back."""
    if mrz != "-":
        raise typer.BadParameter("only - is allowed: no holder data in arguments")
    lines = [line.strip() for line in sys.stdin.read().splitlines() if line.strip()]
    _act(config, job_id, "verify", {"mrz": lines})


@app.command("request-transfer")
def request_transfer(
    job_id: JobId,
    to: Annotated[str, typer.Option(help="the other station")],
    reason: OptionalReason = None,
    config: Config = None,
) -> None:
    """Asks the authority to give a job to another station."""
    _act(config, job_id, "request-transfer", {"to": to, "reason": reason})


@app.command()
def present(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="the book's number")],
    printer: Annotated[
        str | None, typer.Option(help="where; the only printer if there is one")
    ] = None,
    config: Config = None,
) -> None:
    """Presents a blank book: its job goes next."""
    settings = _settings(config)
    if printer is None:
        if len(settings.printers) > 1:
            raise typer.BadParameter(f"name one with --printer: {', '.join(settings.printers)}")
        printer = next(iter(settings.printers))
    answer = Client(settings.http.socket).post(
        f"/v1/printers/{part(printer)}/book", {"number": number}
    )
    sys.stdout.write(f"{answer['job']}\n")


@app.command()
def printers(config: Config = None, as_json: Json = False) -> None:
    """What each printer does and wants."""
    found = _view(config).get("/v1/printers")
    if as_json:
        _print_json(found)
        return
    rows = [
        [
            p["name"],
            p["state"],
            ",".join(p["reasons"]) or "-",
            p["job"] or "-",
            p["presented"] or "-",
            p["detail"] or "-",
        ]
        for p in found
    ]
    _table(["PRINTER", "STATE", "REASONS", "JOB", "PRESENTED", "WHAT TO DO"], rows)


@printer_app.command("accept")
def printer_accept(
    name: Annotated[str, typer.Argument()], reason: Reason, config: Config = None
) -> None:
    """Accepts a changed printer, or declares one that is away switched off."""
    answer = _client(config).post(f"/v1/printers/{part(name)}/accept", {"reason": reason})
    sys.stdout.write(f"{answer['name']}: {answer['state']}\n")


@clock_app.command("accept")
def clock_accept(reason: Reason, config: Config = None) -> None:
    """Confirms a clock that is ahead of what the journal knows."""
    _client(config).post("/v1/clock/accept", {"reason": reason})
    sys.stdout.write("accepted\n")


@app.command()
def submit(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")], config: Config = None
) -> None:
    """Hands signed messages over, one line an answer."""
    client = _client(config)
    refused = False
    for file in files:
        kind = "application/jose-seq" if file.suffix == ".jose-seq" else "application/jose"
        code, raw = client.call("POST", "/v1/messages", file.read_bytes(), kind=kind)
        answer = json.loads(raw)
        rows = answer if isinstance(answer, list) else [answer | {"status": code}]
        for row in rows:
            refused |= row["status"] >= 300
            sys.stdout.write(
                f"{file.name}\t{row['status']}\t{row.get('type') or row.get('job') or '-'}\t{row.get('detail') or ''}\n"
            )
    raise typer.Exit(1 if refused else 0)


@app.command()
def receipts(
    config: Config = None, after: Annotated[int, typer.Option()] = 0, as_json: Json = False
) -> None:
    """The signed chain, one receipt a line."""
    view = _view(config)
    while True:
        lines, head = view_receipts(view, after)
        for line in lines:
            claims = decode_claims(line)
            after = claims["seq"]
            sys.stdout.write((json.dumps(claims, ensure_ascii=False) if as_json else line) + "\n")
        if not lines or after >= head:
            return


def view_receipts(view: Client | JournalView, after: int) -> tuple[list[str], int]:
    """A page of receipts, and the ``seq`` at the end of the chain."""
    if isinstance(view, JournalView):
        return view.receipts(after)
    _, raw = view.call("GET", f"/v1/receipts?after={after}&limit=1000")
    lines = raw.decode().split()
    return lines, decode_claims(lines[-1])["seq"] if len(lines) < 1000 and lines else after + len(
        lines
    ) + 1


def decode_claims(line: str) -> dict[str, Any]:
    """The claims of a receipt, unverified."""
    import base64

    text = line.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return claims


@journal_app.command("verify")
def journal_verify(config: Config = None, as_json: Json = False) -> None:
    """Recomputes the chain, the signatures and every table; changes nothing."""
    from agent.service import journal_path
    from agent.verification import verify_journal

    settings = _settings(config)
    report = verify_journal(
        journal_path(settings), station_id=settings.station.id, authority_id=settings.authority.id
    )
    if as_json:
        _print_json(
            {
                "events": report.events,
                "receipts": report.receipts,
                "jobs": report.jobs,
                "faults": list(report.faults),
            }
        )
    else:
        sys.stdout.write(
            f"{report.events} events, {report.receipts} receipts, {report.jobs} jobs\n"
        )
        for fault in report.faults:
            sys.stdout.write(f"! {fault}\n")
        sys.stdout.write(
            "the journal is whole\n"
            if not report.faults
            else "the journal is NOT whole: keep it, call support\n"
        )
    raise typer.Exit(1 if report.faults else 0)


@journal_app.command("backup")
def journal_backup(
    target: Annotated[Path, typer.Argument(metavar="FILE")], config: Config = None
) -> None:
    """Copies the journal, also while the agent prints."""
    from agent.backup import backup_journal

    backup_journal(_settings(config), target)
    sys.stdout.write(f"{target}: written\n")


@journal_app.command("restore")
def journal_restore(
    source: Annotated[Path, typer.Argument(metavar="FILE")], config: Config = None
) -> None:
    """Puts a backup in place; printing then waits for the authority's `resume`."""
    from agent.backup import restore_journal

    aside = restore_journal(_settings(config), source)
    if aside is not None:
        sys.stdout.write(f"the journal until now is kept as {aside}\n")
    sys.stdout.write("restored; messages are taken, printing waits for the authority's `resume`\n")


@keys_app.command("rotate")
def keys_rotate(
    overlap_days: Annotated[
        int, typer.Option(help="how long messages to the old key are taken")
    ] = 30,
    config: Config = None,
) -> None:
    """New keys while the agent is stopped; its next start announces them (`keys-rotated`)."""
    from agent.clock import SystemClock
    from agent.crypto.keys import load_station_keys, replace_station_keys
    from agent.service import hold_state_directory, open_journal

    settings = _settings(config)
    with hold_state_directory(settings):
        journal, _ = open_journal(settings, clock=SystemClock())
        journal.close()
        keys = load_station_keys(settings.keys.station)
        replace_station_keys(
            settings.keys.station, keys.rotate(SystemClock().now(), overlap_days * 86_400)
        )
        journal, keys = open_journal(settings, clock=SystemClock())
        journal.close()
    _print_json(keys.public_jwks())


@keys_app.command("init")
def keys_init(config: Config = None) -> None:
    """Makes the station's keys; never overwrites."""
    from agent.crypto.keys import init_station_keys

    path = _settings(config).keys.station
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = init_station_keys(path)
    sys.stdout.write(f"{path}: made; its thumbprint is {keys.thumbprint()}\n")


@keys_app.command("show")
def keys_show(config: Config = None) -> None:
    """The public keys, for the authority."""
    from agent.crypto.keys import load_station_keys

    settings = _settings(config)
    _print_json(load_station_keys(settings.keys.station, sealed=settings.keys.sealed).public_jwks())


@technician_app.command("add")
def technician_add(name: Annotated[str, typer.Argument()], config: Config = None) -> None:
    """Prints a new token, this once."""
    sys.stdout.write(_client(config).post(f"/v1/technicians/{part(name)}/add", {})["token"] + "\n")


@technician_app.command("list")
def technician_list(config: Config = None, as_json: Json = False) -> None:
    """Who has a token."""
    found = _client(config).get("/v1/technicians")
    _print_json(found) if as_json else sys.stdout.writelines(f"{row['name']}\n" for row in found)


@technician_app.command("remove")
def technician_remove(name: Annotated[str, typer.Argument()], config: Config = None) -> None:
    """Ends a token."""
    _client(config).post(f"/v1/technicians/{part(name)}/remove", {})


@app.command()
def demo(
    serve: Annotated[bool, typer.Option("--serve", help="leave a live station running")] = False,
    directory: Annotated[Path, typer.Option(help="where everything of the demo goes")] = Path(
        "demo"
    ),
    books: Annotated[int, typer.Option(help="how many books")] = 80,
    speed: Annotated[float, typer.Option(help="how many times faster than a real printer")] = 40.0,
) -> None:
    """A working day on the virtual printer, with two power cuts."""
    from agent.cli.demo import run_demo

    raise typer.Exit(run_demo(directory, books=books, speed=speed, serve=serve))
