"""Builds the Debian package: the agent and its locked libraries in one virtual environment for each supported python3.

The libraries come as wheels with the hashes of requirements/runtime.txt, so neither this machine nor the station
compiles anything. What is compiled for one Python bears its name (``*.cpython-311-*.so``), so the wheels of several
Pythons lie in one folder, as Debian's own packages do it.
"""

from __future__ import annotations

import argparse
import filecmp
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from agent import __version__
from agent.queue.migrations import SCHEMA_VERSION
from tools import example_configuration, manual_page

ROOT = Path(__file__).parents[1]
NAME = "passport-print-agent"
HOME = Path("usr/lib") / NAME
PYTHONS = ("3.11", "3.13")  # Debian 12 and 13
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC_MINORS = range(5, 37)  # Debian 12 has glibc 2.36
LAUNCHER = f"""\
#!/{HOME}/bin/python3 -I
import sys

from agent.__main__ import main

sys.exit(main())
"""
# What wheels of one library may say differently for two Pythons: their own description, which nobody reads at run time,
# and extensions of SQLite, which know no Python.
DIFFERS = re.compile(r"[^/]+\.dist-info/(RECORD|WHEEL|sboms/.+)|apsw/sqlite_extra_binaries/.+\.so")
# Command line tools, pages and tests of the libraries. SQLite's extensions stay: one of them guards the journal's pages.
UNUSED = ("bin", "docs", "share", "tests", "apsw/sqlite_extra_binaries/sqlite3_*", "apsw/tests")


def build(folder: Path, *, version: str, architecture: str, compression: str) -> Path:
    """Builds the package into ``folder``; gives its file."""
    with tempfile.TemporaryDirectory(prefix="deb-") as temporary:
        tree = Path(temporary) / "tree"
        _put_libraries(tree / HOME / "lib", MACHINES[architecture])
        _put_environment(tree / HOME)
        _put_system_files(tree)
        _put_documents(tree / "usr/share/doc" / NAME, version)
        _put_control(tree / "DEBIAN", tree, version=version, architecture=architecture)
        _set_modes(tree)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{NAME}_{version}_{architecture}.deb"
        _run("dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", str(tree), str(file))
    return file


def _run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _put_libraries(lib: Path, machine: str) -> None:
    """The libraries of every supported Python in one folder, and the agent."""
    site = lib / "site-packages"
    with tempfile.TemporaryDirectory(prefix="wheels-") as temporary:
        folders = {python: Path(temporary) / python for python in PYTHONS}
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(_fetch, machine=machine), PYTHONS, folders.values()))
        for python, wheels in folders.items():
            _merge(wheels, site)
            (lib / f"python{python}").mkdir()
            (lib / f"python{python}" / "site-packages").symlink_to("../site-packages")
        # Not in the folder of the sources, where setuptools would take modules along that were deleted long ago.
        setup = f"build --build-base={temporary}/agent"
        _pip(
            *("--no-build-isolation", f"--config-settings=--global-option={setup}"),
            *("--target", str(site), str(ROOT)),
        )
    shutil.rmtree(site / "bin")


def _fetch(python: str, wheels: Path, *, machine: str) -> None:
    """What the agent needs of libraries, for one Python."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS]
    _pip(
        *("--require-hashes", "--only-binary=:all:", "--implementation=cp"),
        f"--python-version={python}",
        *(f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")),
        *(f"--platform={name}" for name in (*platforms, f"manylinux2014_{machine}", "any")),
        *("--target", str(wheels), "-r", "requirements/runtime.txt"),
    )
    for path in (path for name in UNUSED for path in wheels.glob(name)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _pip(*arguments: str) -> None:
    _run(
        *(sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"),
        *("--no-deps", "--no-compile", "--root-user-action=ignore", *arguments),
    )


def _merge(wheels: Path, site: Path) -> None:
    """Moves what is new; what is there already must be the same."""
    for file in _files(wheels):
        name = file.relative_to(wheels)
        target = site / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)
        elif not filecmp.cmp(file, target, shallow=False) and not DIFFERS.fullmatch(str(name)):
            raise SystemExit(f"{name} differs between {PYTHONS}: they cannot share a folder")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file())


def _put_environment(home: Path) -> None:
    """What `python3 -m venv` makes; which site-packages counts is the running python3's choice."""
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to("/usr/bin/python3")
    (home / "bin/print-agent").write_text(LAUNCHER, encoding="utf-8")
    (home / "pyvenv.cfg").write_text(
        "home = /usr/bin\ninclude-system-site-packages = false\n", encoding="utf-8"
    )
    command = home.parents[2] / "usr/bin/print-agent"
    command.parent.mkdir(parents=True)
    command.symlink_to(f"../lib/{NAME}/bin/print-agent")


def _put_system_files(tree: Path) -> None:
    lib = tree / "usr/lib"
    for source in sorted((ROOT / "systemd").iterdir()):
        match source.name:
            case "sysusers.conf" | "tmpfiles.conf":
                _copy(source, lib / f"{source.stem}.d" / "print-agent.conf")
            case _:
                _copy(source, lib / "systemd/system" / source.name)
    for source in sorted((ROOT / "udev").glob("*.rules")):
        _copy(source, lib / "udev/rules.d" / source.name)
    _copy(ROOT / "debian/lintian-overrides", tree / "usr/share/lintian/overrides" / NAME)
    example = tree / "etc/print-agent/station.toml.example"
    example.parent.mkdir(parents=True)
    example.write_text(example_configuration.text(), encoding="utf-8")
    page = tree / "usr/share/man/man1/print-agent.1.gz"
    page.parent.mkdir(parents=True)
    _compress(manual_page.text().encode(), page)


def _put_documents(folder: Path, version: str) -> None:
    folder.mkdir(parents=True)
    _copy(ROOT / "debian/copyright", folder / "copyright")
    # As they lie here, so that their links to each other lead somewhere on the station too.
    for source in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))):
        _copy(source, folder / source.relative_to(ROOT))
    _copy(ROOT / "prometheus/alerts.yml", folder / "examples/prometheus-alerts.yml")
    changes = (
        f"{NAME} ({version}) stable; urgency=medium\n\n  * See CHANGELOG.md beside this file.\n\n"
    )
    changes += f" -- {_maintainer()}  Thu, 01 Jan 2026 00:00:00 +0000\n"
    _compress(changes.encode(), folder / "changelog.gz")


def _maintainer() -> str:
    found = re.search(r"^Maintainer: (.+)$", _template("control"), re.MULTILINE)
    assert found is not None
    return found[1]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _compress(data: bytes, target: Path) -> None:
    target.write_bytes(gzip.compress(data, 9, mtime=0))


def _template(name: str, **values: object) -> str:
    text = (ROOT / "debian" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key.upper()}@", str(value))
    return text


def units() -> list[str]:
    """What is enabled and started: each unit that says where it belongs."""
    return [
        file.name
        for file in sorted((ROOT / "systemd").iterdir())
        if "[Install]" in file.read_text("utf-8")
    ]


def _put_control(control: Path, tree: Path, *, version: str, architecture: str) -> None:
    files = list(_files(tree))
    values = {
        "version": version,
        "architecture": architecture,
        "installed_kib": sum(file.lstat().st_size for file in files) // 1024,
        "journal_schema": SCHEMA_VERSION,
        "units": " ".join(units()),
    }
    control.mkdir()
    for name in ("control", "preinst", "postinst", "prerm", "postrm", "triggers"):
        (control / name).write_text(_template(name, **values), encoding="utf-8")
    (control / "conffiles").write_text(
        "".join(
            f"/{file.relative_to(tree)}\n"
            for file in files
            if file.relative_to(tree).parts[0] == "etc"
        ),
        encoding="utf-8",
    )
    (control / "md5sums").write_text(
        "".join(
            f"{hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()}  {file.relative_to(tree)}\n"
            for file in files
            if not file.is_symlink()
        ),
        encoding="utf-8",
    )


def _set_modes(tree: Path) -> None:
    """Everybody may read, root may write; programs and scripts of the package can be run."""
    programs = {tree / HOME / "bin/print-agent"}
    programs |= {tree / "DEBIAN" / name for name in ("preinst", "postinst", "prerm", "postrm")}
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path in programs else 0o644)


def main() -> None:
    """`make deb`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--version", default=__version__)
    parser.add_argument("--architecture", choices=MACHINES, default=own_architecture())
    parser.add_argument("--compression", choices=("xz", "none"), default="xz")
    arguments = parser.parse_args()
    # The same sources give the same package.
    os.environ.setdefault("SOURCE_DATE_EPOCH", _last_commit_time())
    print(
        build(
            arguments.output,
            version=arguments.version,
            architecture=arguments.architecture,
            compression=arguments.compression,
        )
    )


def own_architecture() -> str:
    """What dpkg calls this machine."""
    return _output("dpkg", "--print-architecture")


def _last_commit_time() -> str:
    return _output("git", "log", "-1", "--format=%ct")


def _output(*command: str) -> str:
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
