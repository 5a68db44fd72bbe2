#!/usr/bin/env bash
# Installs what the project needs from the distribution (Debian, Ubuntu), as far as it is missing.
# With --print-python: prints the Python that .venv is made with, and installs nothing.
set -euo pipefail

SUPPORTED='(3, 11) <= sys.version_info < (3, 15)'

# The newest Python that the project supports and that can make a virtual environment.
best_python() {
    local name
    for name in python3.14 python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
        if "$name" -c "import ensurepip, sys, venv; $SUPPORTED or sys.exit(1); print(sys.executable)" 2>/dev/null; then
            return
        fi
    done
    return 1
}

if [ "${1:-}" = "--print-python" ]; then
    best_python
    exit
fi

missing=()
if ! best_python >/dev/null; then
    if ! command -v python3 >/dev/null || python3 -c "import sys; $SUPPORTED or sys.exit(1)"; then
        missing+=(python3 python3-venv)
    else
        missing+=(python3.11 python3.11-venv) # Ubuntu 22.04: its python3 is 3.10
    fi
fi
[ -e /usr/share/fonts/opentype/ocr-b/OCRB.otf ] || missing+=(fonts-ocr-b)
[ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || missing+=(fonts-dejavu-core)
# pyusb's backend and pyudev's library; the linker's cache is in sbin, which a plain user's PATH lacks.
libraries="$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p)"
case "$libraries" in *libusb-1.0.so.0*) ;; *) missing+=(libusb-1.0-0) ;; esac
case "$libraries" in *libudev.so.1*) ;; *) missing+=(libudev1) ;; esac
# The tests' power supply: upsd with its simulated device. Debian leaves its service off (MODE=none).
[ -x /lib/nut/upsd ] || missing+=(nut-server)
# The tests' MQTT broker; sbin is not on a plain user's PATH.
[ -x /usr/sbin/mosquitto ] || missing+=(mosquitto)
# For tests: the udev rules are carried out on a USB bus that umockdev makes up.
command -v udevadm >/dev/null || missing+=(udev)
command -v umockdev-run >/dev/null || missing+=(umockdev)
# The package's tests: systemd judges its unit, and dpkg's scripts want root or its appearance.
command -v systemd-analyze >/dev/null || missing+=(systemd)
[ "$(id -u)" -eq 0 ] || command -v fakeroot >/dev/null || missing+=(fakeroot)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)

if [ "${#missing[@]}" -eq 0 ]; then
    exit
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "These system packages are missing. Install them, then run make again:" >&2
    echo "  sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "This system has no apt-get; install what Debian calls: ${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
