"""Nothing but one line leaves a failed command: no traceback, no holder data, the right exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.cli import app as app_module
from agent.cli import main, station_commands
from agent.errors import StationBusy

ROOT = Path(__file__).parents[3]


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["print-agent", *arguments])
    return main()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_journald_learns_that_a_failure_is_an_error_and_a_shell_that_inherits_its_name_does_not(
    tmp_path,
):
    arguments = [sys.executable, "-m", "agent", "status", "--config", "/nonexistent"]
    with (tmp_path / "journal").open("w+") as journal:
        status = os.fstat(journal.fileno())
        environment = os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        subprocess.run(arguments, cwd=ROOT, stderr=journal, env=environment, check=False)
        journal.seek(0)
        assert journal.read().startswith("<3>print-agent: /nonexistent")
    done = subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )
    assert done.stderr.startswith("print-agent: /nonexistent")


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def raise_it(_config: object) -> None:
        raise error

    monkeypatch.setattr(station_commands, "view_of", raise_it)


def test_a_bug_shows_where_it_is_and_none_of_its_text(monkeypatch, capsys):
    fail_with(monkeypatch, KeyError("P<UTOERIKSSON<<ANNA"))
    assert run_main(monkeypatch, "status") == 1
    told = capsys.readouterr().err
    assert told.startswith("print-agent: a bug: KeyError at test_boundary.py:")
    assert told.count("\n") == 1
    assert "ERIKSSON" not in told


def test_a_refusal_is_one_line(monkeypatch, capsys):
    fail_with(monkeypatch, StationBusy("another\nagent"))
    assert run_main(monkeypatch, "status") == 1
    assert capsys.readouterr().err == "print-agent: another agent\n"


def test_a_system_error_names_its_file(monkeypatch, capsys):
    fail_with(monkeypatch, IsADirectoryError(21, "Is a directory", "x.jws"))
    assert run_main(monkeypatch, "status") == 1
    assert capsys.readouterr().err == "print-agent: x.jws: Is a directory\n"


def test_what_only_root_and_the_agent_may_read_says_sudo(monkeypatch, capsys):
    fail_with(monkeypatch, PermissionError(13, "Permission denied", "/s/journal.db"))
    assert run_main(monkeypatch, "status") == 1
    assert capsys.readouterr().err == "print-agent: /s/journal.db: Permission denied; use sudo\n"


def test_an_interrupt_is_quiet(monkeypatch, capsys):
    fail_with(monkeypatch, KeyboardInterrupt())
    assert run_main(monkeypatch, "status") == 130
    assert capsys.readouterr().err == ""


def test_the_exit_code_of_a_command_is_the_process_s(monkeypatch, tmp_path):
    monkeypatch.setattr("agent.service.run", lambda _settings: 7)
    monkeypatch.setattr(station_commands, "settings_of", lambda _config: None)
    assert run_main(monkeypatch, "run") == 7


def test_a_reader_that_went_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "agent", "--version"],
            cwd=ROOT,
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs", "--state", "nix"],
        ["resolve", "x", "--outcome", "maybe", "--book", "C1"],
        ["cancel", "x"],
        ["nix"],
        ["submit"],
        ["receipts", "--after", "-1"],
    ],
)
def test_wrong_usage_is_2(monkeypatch, capsys, arguments):
    assert run_main(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Usage" in shown.err


@pytest.mark.parametrize(
    "given",
    [
        ["--mrz", "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<"],
        ["--mrz", "-", "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<"],
        ["--mrz", "-", "--ERIKSSON"],
        ["--mrz", "P<UTOERIKSSON<<A", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"],
    ],
)
def test_holder_data_in_arguments_is_refused_and_not_repeated(monkeypatch, capsys, given):
    assert run_main(monkeypatch, "verify", "job-1", *given) == 2
    shown = capsys.readouterr()
    assert "never holder data in arguments" in " ".join(shown.err.replace("│", "").split())
    assert "ERIKSSON" not in shown.err + shown.out
    assert "L898902C" not in shown.err + shown.out


def commands_below(group: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, below in group.commands.items():
        if hasattr(below, "commands"):
            found += commands_below(below, (*path, name))
        else:
            found.append((*path, name))
    return found


def every_command() -> list[tuple[str, ...]]:
    from typer.main import get_command

    return commands_below(get_command(app_module.app))


def test_the_contract_s_commands_are_there():
    wanted = ["run", "status", "jobs", "job", "cancel", "hold", "release", "replay", "resolve"]
    wanted += ["verify", "request-transfer", "present", "printers", "submit", "receipts", "demo"]
    groups = {
        "printer": ["accept"],
        "clock": ["accept"],
        "journal": ["verify", "backup", "restore"],
        "keys": ["init", "show", "rotate"],
        "technician": ["add", "list", "remove"],
        "authority": ["init", "authorize", "direct", "verify"],
    }
    expected = {(name,) for name in wanted}
    expected |= {(group, name) for group, names in groups.items() for name in names}
    assert expected <= set(every_command())


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_takes_config_after_its_name(monkeypatch, capsys, path):
    # With --help behind it nothing is done; a command without the option says "No such option".
    assert run_main(monkeypatch, *path, "--config", "station.toml", "--help") == 0
    assert "No such option" not in capsys.readouterr().err


def test_a_missing_configuration_is_one_line(tmp_path):
    done = command("status", "--config", str(tmp_path / "none.toml"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"print-agent: {tmp_path}/none.toml: found no such file")
    assert done.stderr.count("\n") == 1


def test_a_short_command_loads_nothing_slow():
    code = (
        "import sys; import agent.cli.app;"
        "print([name for name in ('fastapi', 'PIL', 'cryptography', 'apsw', 'rich.table', 'joserfc', 'uvicorn')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
