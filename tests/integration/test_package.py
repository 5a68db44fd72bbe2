"""The Debian package: what is in it, and what its scripts do to a system (a scratch root; `make drill` boots real ones)."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from station_fixture import ABSENT, prepare

from agent import __version__
from agent.clock import SystemClock
from agent.config import load_settings
from agent.queue.migrations import SCHEMA_VERSION
from agent.service import open_journal
from tools import build_deb

NAME = build_deb.NAME
SITE = build_deb.HOME / "lib/site-packages"
# dpkg gives root's rights to the scripts; who is not root gets them in appearance.
AS_ROOT = [] if os.geteuid() == 0 else ["fakeroot"]


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return build_deb.build(
        tmp_path_factory.mktemp("package"),
        version=__version__,
        architecture=build_deb.own_architecture(),
        compression="none",
    )


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory) -> Path:
    """The package's files and, in DEBIAN, its scripts."""
    folder = tmp_path_factory.mktemp("unpacked") / "tree"
    subprocess.run(["dpkg-deb", "-R", package, folder], check=True)
    return folder


@dataclass
class Packages:
    """The package without its libraries, which its scripts do not know, in any version."""

    folder: Path

    def version(self, version: str, *, schema: int = SCHEMA_VERSION) -> Path:
        for name, old, new in (
            ("control", r"^Version: .*", f"Version: {version}"),
            ("preinst", r"^KNOWN = .*", f"KNOWN = {schema}"),
        ):
            file = self.folder / "DEBIAN" / name
            text, count = re.subn(old, new, file.read_text("utf-8"), flags=re.MULTILINE)
            assert count == 1
            file.write_text(text, "utf-8")
        made = self.folder.parent / f"{NAME}_{version}.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "-b", self.folder, made],
            check=True,
            capture_output=True,
        )
        return made


@pytest.fixture
def packages(unpacked, tmp_path) -> Packages:
    folder = tmp_path / "package"
    site = str(unpacked / SITE)

    def libraries(place: str, names: list[str]) -> set[str]:
        return {name for name in names if place == site and name != "agent"}

    shutil.copytree(unpacked, folder, symlinks=True, ignore=libraries)
    return Packages(folder)


@dataclass
class System:
    """A system without anything but dpkg's own folders; scripts get it as DPKG_ROOT."""

    root: Path

    def dpkg(self, *arguments: str | Path, code: int = 0) -> str:
        forced = ("depends", "script-chrootless", "not-root", "bad-path", "unsafe-io")
        done = subprocess.run(
            [
                *(*AS_ROOT, "dpkg", f"--root={self.root}", "--log=/dev/null"),
                *(f"--force-{what}" for what in forced),
                *arguments,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def version(self) -> str:
        status = (self.root / "var/lib/dpkg/status").read_text("utf-8")
        found = re.search(r"Status: (.+)(?:\n.*)*?\nVersion: (.+)", status)
        return f"{found[2]} {found[1]}" if found else "none"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/print-agent"

    def use(self, *, schema: int = SCHEMA_VERSION, folder: Path | None = None) -> Path:
        """A station that has printed: its journal and its configuration."""
        journal = (folder or self.state) / "journal.db"
        journal.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(journal) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA user_version={schema}")
        connection.close()
        configuration = self.root / "etc/print-agent/station.toml"
        place = "" if folder is None else f'state_dir = "/{folder.relative_to(self.root)}"\n'
        configuration.write_text(f'[station]\nid = "sambas-01"\n{place}', "utf-8")
        return journal


@pytest.fixture
def system(tmp_path) -> System:
    root = tmp_path / "system"
    for folder in ("updates", "info"):
        (root / "var/lib/dpkg" / folder).mkdir(parents=True)
    for file in ("status", "available"):
        (root / "var/lib/dpkg" / file).touch()
    (root / "etc").mkdir()
    return System(root)


def test_it_holds_what_is_pinned_for_every_python_and_nothing_that_python_made(unpacked):
    site = unpacked / SITE
    lock = (build_deb.ROOT / "requirements/runtime.txt").read_text("utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    held = {
        (name.replace("_", "-").lower(), version)
        for name, version in (
            folder.name.removesuffix(".dist-info").rsplit("-", 1)
            for folder in site.glob("*.dist-info")
        )
    }
    assert held == pinned | {(NAME, __version__)}
    compiled = [file.name for file in site.rglob("*.cpython-*.so")]
    versions = [python.replace(".", "") for python in build_deb.PYTHONS]
    assert len(compiled) >= 10
    for name in compiled:
        for version in versions:
            assert re.sub(r"cpython-\d+", f"cpython-{version}", name) in compiled
    assert not list(unpacked.rglob("__pycache__"))
    assert files_below(site / "agent") == files_below(build_deb.ROOT / "agent")
    for python in build_deb.PYTHONS:
        assert (unpacked / build_deb.HOME / f"lib/python{python}/site-packages").samefile(site)


def files_below(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


def test_its_agent_reads_a_journal_under_each_supported_python_that_is_here(unpacked, tmp_path):
    open_journal(load_settings(prepare(tmp_path, ABSENT)), clock=SystemClock())[0].close()
    for python in build_deb.PYTHONS:
        program = Path(f"/usr/bin/python{python}")
        if not program.exists():
            continue
        environment = tmp_path / python
        (environment / "bin").mkdir(parents=True)
        (environment / "bin/python3").symlink_to(program)
        for name in ("lib", "pyvenv.cfg"):
            (environment / name).symlink_to(unpacked / build_deb.HOME / name)
        for arguments, told in (
            (["--version"], f"print-agent {__version__}\n"),
            (["journal", "verify", "--config", tmp_path / "station.toml"], "the journal is whole"),
        ):
            done = subprocess.run(
                [environment / "bin/python3", "-I", "-m", "agent", *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
            assert told in done.stdout, done.stderr


def test_what_the_system_gets(unpacked):
    for name in (
        "usr/bin/print-agent",
        "usr/lib/systemd/system/print-agent.service",
        "usr/lib/sysusers.d/print-agent.conf",
        "usr/lib/tmpfiles.d/print-agent.conf",
        "usr/lib/udev/rules.d/72-print-agent.rules",
        "usr/share/man/man1/print-agent.1.gz",
        "usr/share/doc/passport-print-agent/copyright",
    ):
        assert (unpacked / name).is_symlink() or (unpacked / name).is_file(), name
    assert (unpacked / "DEBIAN/conffiles").read_text("utf-8") == (
        "/etc/print-agent/station.toml.example\n"
    )
    # No script has a value left out, and a shell can read each.
    for script in ("preinst", "postinst", "prerm", "postrm"):
        text = (unpacked / "DEBIAN" / script).read_text("utf-8")
        assert not re.findall(r"@[A-Z_]+@", text)
        subprocess.run(["sh", "-n", unpacked / "DEBIAN" / script], check=True)


def test_the_manuals_pages_find_each_other_on_the_station(unpacked):
    pages = list((unpacked / "usr/share/doc/passport-print-agent").rglob("*.md"))
    assert {"README.md", "install.md", "troubleshooting.md", "drill.md"} <= {p.name for p in pages}
    links = [
        (page, page.parent / link)
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+\.md)", page.read_text("utf-8"))
    ]
    assert len(links) >= 40
    assert [(page.name, link) for page, link in links if not link.is_file()] == []


def test_installed_upgraded_removed_and_purged_the_journal_stays(system, packages):
    told = system.dpkg("-i", packages.version("1.0"))
    assert "run 'print-agent setup' now" in told
    assert "print-agent:" in (system.root / "etc/passwd").read_text("utf-8")
    groups = (system.root / "etc/group").read_text("utf-8")
    assert re.findall(r"^(\w+):.*:print-agent$", groups, re.MULTILINE) == ["dialout", "lp"]
    assert system.state.stat().st_mode & 0o777 == 0o700
    assert (system.root / SITE / "agent/__pycache__").is_dir()
    wants = system.root / "etc/systemd/system/multi-user.target.wants"
    assert (wants / "print-agent.service").is_symlink()
    journal = system.use()
    before = journal.read_bytes()

    told = system.dpkg("-i", packages.version("9.0"))
    assert "setup" not in told
    assert system.version() == "9.0 install ok installed"
    assert "sambas-01" in (system.root / "etc/print-agent/station.toml").read_text("utf-8")

    system.dpkg("-r", NAME)
    assert not (system.root / build_deb.HOME).exists()
    assert (system.root / "etc/print-agent/station.toml").is_file()

    told = system.dpkg("-P", NAME)
    assert f"{system.state} is kept" in told
    assert system.version() == "none"
    assert not (system.root / "etc/print-agent").exists()
    assert not (wants / "print-agent.service").is_symlink()
    assert journal.read_bytes() == before


def test_purged_before_it_was_used_nothing_is_left(system, packages):
    system.dpkg("-i", packages.version("1.0"))
    assert "is kept" not in system.dpkg("-P", NAME)
    assert not system.state.exists()


@pytest.mark.parametrize("place", ["var/lib/print-agent", "srv/journal"])
def test_a_package_too_old_for_the_journal_is_refused_before_anything_changes(
    system, packages, place
):
    older = packages.version("1.0")
    system.dpkg("-i", packages.version("9.0", schema=SCHEMA_VERSION + 1))
    journal = system.use(schema=SCHEMA_VERSION + 1, folder=system.root / place)
    told = system.dpkg("-i", older, code=1)
    assert (
        f"{NAME} {__version__} is refused: the journal {journal} has schema {SCHEMA_VERSION + 1}"
        in told
    )
    assert system.version() == "9.0 install ok installed"
    assert (system.root / SITE / "agent/__pycache__").is_dir()
    # After a removal the journal still counts.
    system.dpkg("-r", NAME)
    assert "is refused" in system.dpkg("-i", older, code=1)
    # One that it can read is no reason.
    system.use(folder=system.root / place)
    system.dpkg("-i", older)
    assert system.version() == "1.0 install ok installed"


def test_the_unit_is_understood_and_exposes_little(unpacked, tmp_path):
    unit = unpacked / "usr/lib/systemd/system/print-agent.service"
    # The threshold is in tenths: 2.0.
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level for print-agent.service" in done.stdout
    beside = tmp_path / unit.name
    text = unit.read_text("utf-8").replace("/usr/bin/print-agent run", "/bin/true")
    beside.write_text(text, "utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", beside],
        capture_output=True,
        text=True,
        check=False,
    )
    # Debian 12's systemd does not know the back-off of Debian 13's.
    unknown = [
        line
        for line in verified.stderr.splitlines()
        if "print-agent" in line and not re.search(r"Unknown key.*Restart(Steps|MaxDelaySec)", line)
    ]
    assert unknown == []
