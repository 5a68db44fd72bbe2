#!/usr/bin/env bash
# The package on real systems: Debian 12 and 13 are made with debootstrap, booted with systemd-nspawn (their own
# systemd as process 1), and tools/install-drill-steps.sh runs in them. Needs root, debootstrap, systemd-container
# and some minutes; the folder of the systems (DRILL, default /var/tmp/install-drill) is kept for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."

for program in debootstrap systemd-nspawn; do
    if ! command -v "$program" >/dev/null; then
        echo "$program is missing: apt-get install debootstrap systemd-container" >&2
        exit 1
    fi
done
systems="${DRILL:-/var/tmp/install-drill}"
needed="systemd,systemd-sysv,dbus,udev,python3,libudev1,libusb-1.0-0,fonts-ocr-b,fonts-dejavu-core"
python="${PYTHON:-.venv/bin/python}"

"$python" -m tools.build_deb --output "$systems/packages" --version 0.1.0
"$python" -m tools.build_deb --output "$systems/packages" --version 0.1.1 --compression none

failed=0
suites=("$@")
[ $# -gt 0 ] || suites=(bookworm trixie)
for suite in "${suites[@]}"; do
    root="$systems/$suite"
    if [ ! -e "$root/etc/debian_version" ]; then
        echo "$suite: debootstrap"
        debootstrap --variant=minbase --include="$needed" "$suite" "$root" >"$root.debootstrap.log" 2>&1
    fi
    # Every drill begins with the bare system.
    used="$systems/$suite.used"
    rm -rf "$used"
    cp -a "$root" "$used"
    mkdir -p "$used/drill"
    cp "$systems"/packages/*.deb tools/install-drill-steps.sh "$used/drill/"
    cat >"$used/etc/systemd/system/drill.service" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /drill/install-drill-steps.sh
StandardOutput=file:/drill/report
StandardError=file:/drill/trace
ExecStopPost=/bin/systemctl --no-block poweroff
END
    mkdir -p "$used/etc/systemd/system/default.target.wants"
    ln -s ../drill.service "$used/etc/systemd/system/default.target.wants/drill.service"
    echo "$suite: boot"
    timeout 600 systemd-nspawn --quiet --directory="$used" --register=no --keep-unit --private-network --boot \
        </dev/null >"$systems/$suite.console.log" 2>&1 || true
    cat "$used/drill/report"
    if ! tail -n 1 "$used/drill/report" | grep -q '^done: all'; then
        echo "$suite: FAILED; see $used/drill/trace"
        failed=1
    fi
done
exit "$failed"
