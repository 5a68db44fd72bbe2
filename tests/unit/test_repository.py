"""The habits of the house that no other tool checks."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import get_origin

import pytest
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent import config
from agent.cli.app import app
from agent.drivers.interview import Trouble
from agent.links.problems import TITLES
from agent.live import PrinterReason
from agent.model import Reason
from agent.selftest import Part

ROOT = Path(__file__).parents[2]
CONTRACT_VECTORS = ROOT.parent / "shared" / "vectors"
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

# The patterns are written so that this file does not match them.
REGISTRY_HOST = re.compile(
    r"\b(?:py[p]i|python[h]osted|npm[j]s|yarn[p]kg|deb\.debian|security\.debian|archive\.ubuntu)"
    r"\.(?:org|com|io)\b"
)
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work/|root/|tmp/bash_j[o]bs|opt/[p]ypi|opt/[w]heels)")
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E)\b|\braise NotImplemented[E]rror\b")
SILENCED = re.compile(r"#\s*(?:no[q]a|type:\s*ign[o]re|pragma:\s*no\s[c]over)")
SILENCED_WITH_REASON = re.compile(
    r"#\s*(?:no[q]a: [A-Z]+\d+(?:, [A-Z]+\d+)* - \w"
    r"|type: ign[o]re\[[a-z-]+(?:, ?[a-z-]+)*\]\s+# \w"
    r"|pragma: no [c]over - \w)"
)


@cache
def committed_texts() -> dict[str, str]:
    """Every text that git has, but for the contract's own vectors (compared below)."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    texts = {}
    for name in filter(None, names):
        file = ROOT / name
        if name.startswith("tests/vectors/") or not file.is_file():
            continue
        content = file.read_bytes()
        if b"\0" not in content:
            texts[name] = content.decode("utf-8")
    return texts


def lines_matching(pattern: re.Pattern[str], *, suffixes: tuple[str, ...] = ("",)) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in committed_texts().items()
        if name.endswith(suffixes)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_search_sees_the_repository():
    assert {"README.md", "agent/config.py", "tests/unit/test_repository.py"} <= set(
        committed_texts()
    )


def test_no_file_names_a_package_registry():
    assert lines_matching(REGISTRY_HOST) == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on():
    assert lines_matching(MACHINE_PATH) == []


def test_nothing_is_left_unfinished():
    assert lines_matching(UNFINISHED, suffixes=(".py", ".sql", ".toml", ".sh", "Makefile")) == []


def test_every_silenced_check_says_why_on_its_line():
    silenced = lines_matching(SILENCED, suffixes=(".py",))
    assert [line for line in silenced if not SILENCED_WITH_REASON.search(line)] == []


def test_every_rule_that_is_off_says_why_on_its_line():
    section = committed_texts()["pyproject.toml"].partition("[tool.ruff.lint]")[2]
    section = section.partition("[tool.ruff.lint.flake8-tidy-imports]")[0]
    rules = [line for line in section.splitlines() if re.match(r'\s+"[A-Z]+\d*",', line)]
    assert len(rules) > 40
    assert [line for line in rules if not re.match(r'\s+"[A-Z]+\d*",\s+# \S', line)] == []


def test_every_module_postpones_its_annotations():
    # A module of nothing but a docstring has nothing to annotate.
    bare = [
        name
        for name, text in committed_texts().items()
        if name.endswith(".py")
        and not name.endswith("__init__.py")
        and "from __future__ import annotations" not in text
    ]
    assert bare == []


def test_tests_are_no_packages():
    # importlib mode needs none, and one would hide a test file with the same name.
    assert [
        name for name in committed_texts() if re.match(r"tests/unit/.*__init__\.py", name)
    ] == []


def test_test_files_have_unique_names():
    names = [name.rpartition("/")[2] for name in committed_texts() if "/test_" in name]
    assert sorted(names) == sorted(set(names))


def test_the_vectors_are_whole(vectors_dir, vectors_index):
    assert len(vectors_index["vectors"]) > 200
    for vector in vectors_index["vectors"]:
        content = (vectors_dir / vector["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == vector["sha256"], vector["name"]


@pytest.mark.skipif(not CONTRACT_VECTORS.is_dir(), reason="the contract does not lie beside it")
def test_the_vectors_are_the_contracts():
    def digests(folder: Path) -> dict[str, str]:
        return {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in folder.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }

    assert digests(ROOT / "tests/vectors") == digests(CONTRACT_VECTORS)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_pinned_library_has_its_hash_and_no_host(lock):
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    pins = re.findall(
        r"^([a-z0-9.-]+)(?:\[[a-z0-9,-]+\])?==\S+ ;[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE
    )
    assert pins
    assert pins == re.findall(r"^([a-z0-9.-]+)", text, re.MULTILINE)


def test_every_library_at_run_time_has_its_licence_told():
    table = (ROOT / "docs/licences.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| ([a-z0-9-]+) \| (.+?) \|", table, re.MULTILINE)[1:]
    pinned = re.findall(
        r"^([a-z0-9-]+)==", (ROOT / "requirements/runtime.txt").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(name for name, _ in told) == sorted(set(pinned))
    assert [row for row in told if re.search(r"\bA?GPL", row[1])] == []


def test_the_direct_libraries_are_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime = (ROOT / "requirements/runtime.txt").read_text(encoding="utf-8")
    for requirement in project["dependencies"]:
        name = re.split(r"[<>=\[]", requirement)[0]
        assert re.search(rf"^{re.escape(name)}==", runtime, re.MULTILINE), name


def told_commands() -> list[str]:
    """Each `print-agent …` that the README and the manuals tell a person to type."""
    texts = [text for name, text in committed_texts().items() if name.endswith(".md")]
    commands = re.findall(
        r"(?:^|`|bin/)print-agent +([a-z][^`#\n]*)", "\n".join(texts), re.MULTILINE
    )
    return sorted({command.strip() for command in commands})


def test_the_manuals_tell_commands():
    assert len(told_commands()) >= 10


def test_every_told_command_exists_with_its_options():
    unknown = []
    for told in told_commands():
        words = told.split()
        command = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        if hasattr(command, "commands") or options - known:
            unknown.append(told)
    assert unknown == []


def test_every_told_make_target_exists():
    makefile = committed_texts()["Makefile"]
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    told = {
        target
        for name, text in committed_texts().items()
        if name.endswith(".md")
        for target in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)
    }
    assert {"demo", "test"} <= told
    assert told <= targets


def configuration_rows(table: type[BaseModel], keys: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """How the manual's table of each part of station.toml must begin, row by row."""
    rows: dict[str, list[str]] = {".".join(keys): []} if keys else {}
    for name, about in table.model_fields.items():
        inner = config.table_in(about.annotation)
        if inner is not None:
            named = get_origin(about.annotation) is not None and "Mapping" in str(about.annotation)
            rows |= configuration_rows(inner, (*keys, name, *(("NAME",) if named else ())))
        else:
            allowed = (about.description or "").replace("|", "\\|")
            rows[".".join(keys)].append(f"| `{name}` | {shown_default(about)} | {allowed} | ")
    return rows


def shown_default(about: FieldInfo) -> str:
    if about.is_required():
        return "needed"
    match about.get_default(call_default_factory=True):
        case None | "" | () | {}:
            return "none"
        case bool(value):
            return str(value).lower()
        case config.Address(host, port):
            return f"{host}:{port}"
        case tuple(value):
            return str(list(value))
        case value:
            return str(value)


def test_the_manual_has_every_key_of_the_configuration_with_default_and_what_is_allowed():
    text = committed_texts()["docs/manual/configuration.md"]
    sections = dict(re.findall(r"^## \[(\S+)\]\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    rows = configuration_rows(config.Settings)
    assert sections.keys() == rows.keys()
    for table, expected in rows.items():
        told = re.findall(r"^(\| `.*?\| .*?\| .*?\| )\S.* \|$", sections[table], re.MULTILINE)
        assert told == expected, (
            f"[{table}]: the table must have exactly these rows, each with a word what it is for"
        )


def told_words() -> set[str]:
    """Every keyword that the station shows a person: job and printer reasons, conditions, problems."""
    code = "\n".join(text for name, text in committed_texts().items() if name.startswith("agent/"))
    conditions = re.findall(r'\bCondition\(\s*"([a-z-]+)"', code)
    conditions += re.findall(r'Finding\([^()]*(?:\([^()]*\)[^()]*)*?,\s*"([a-z-]+)",?\s*\)', code)
    conditions += re.findall(r'\{"name": "([a-z-]+)", "detail"', code)
    problems = re.findall(r'\b(?:Message|Request)Refused\(\s*\d+,\s*"([a-z-]+)"', code)
    return {
        *(reason.value for reason in Reason),
        *(reason.value for reason in PrinterReason),
        *(f"printer-{reason.removeprefix('printer-')}" for reason in PrinterReason),
        *(f"{part}-unusable" for part in Part if part not in (Part.CLOCK, Part.READER, Part.AGENT)),
        *(f"printer-{trouble}" for trouble in Trouble),
        *conditions,
        *problems,
        *TITLES,
    }


def test_every_word_that_the_station_shows_has_its_entry_in_the_manual():
    assert {
        "disk-unsafe",
        "on-battery",
        "bad-document",
        "not-running",
        "printer-offline",
    } <= told_words()
    text = committed_texts()["docs/manual/troubleshooting.md"]
    entries = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| \S.* \| \S.* \|$", text, re.MULTILINE)
    told = {word for entry in entries for word in re.findall(r"`([a-z-]+)`", entry)}
    assert told_words() - told == set()


def test_each_record_has_a_number_of_its_own_and_bears_it():
    records = {name: text for name, text in committed_texts().items() if "docs/adr/" in name}
    numbers = [int(name.rpartition("/")[2][:4]) for name in sorted(records)]
    assert numbers == list(range(1, len(records) + 1))
    for name, text in records.items():
        assert text.startswith(f"# {int(name.rpartition('/')[2][:4])}. "), name


def test_every_link_of_the_pages_leads_somewhere():
    texts = committed_texts()
    lost = []
    for name, text in texts.items():
        if not name.endswith(".md"):
            continue
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            path, _, heading = target.partition("#")
            file = ROOT / name if not path else (ROOT / name).parent / path
            if "://" in target or (file.is_dir() and not heading):
                continue
            page = texts.get(os.path.relpath(file, ROOT))
            if page is None or (heading and heading not in headings_of(page)):
                lost.append(f"{name}: {target}")
    assert lost == []


def headings_of(page: str) -> set[str]:
    """What a heading is called in a link: lower case, words and hyphens only."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
