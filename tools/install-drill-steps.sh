#!/usr/bin/env bash
# Runs inside a booted Debian (see install-drill.sh): the life of a station's package, step by step.
# Standard output is the report: what was seen, and how long it took.
set -uo pipefail
set -x
cd /drill

old=$(ls passport-print-agent_0.1.0_*.deb)
new=$(ls passport-print-agent_0.1.1_*.deb)
state=/var/lib/print-agent
printer=/var/lib/print-agent/printer
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

now_ms() { date +%s%3N; }

fail() {
    echo "FAILED: $*"
    systemctl status --no-pager print-agent.service >&2
    journalctl --no-pager -u print-agent.service -n 50 >&2
    exit 1
}

told() { echo "  $(($(now_ms) - started)) ms  $*"; }

step() {
    echo "$*"
    started=$(now_ms)
}

# The virtual printer, with an operator who scans, puts in and takes out its books.
start_printer() { # SPEED
    systemd-run --quiet --unit=printer --uid=print-agent /usr/lib/passport-print-agent/bin/python3 -m \
        agent.drivers.virtual.process --directory $printer --speed "$1" --presents --agent-socket /run/print-agent/agent.sock
}

# Waits until a command succeeds, 60 s at most.
await() {
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    fail "awaited in vain: $*"
}

require() { "$@" >&2 || fail "$*"; }
property() { systemctl show --value -p "$1" print-agent.service; }
restarted() { [ "$(property MainPID)" != "$pid" ]; }
idle() { print-agent printers --json | grep -q '"idle"'; }
serves() { systemctl --quiet is-active print-agent.service && print-agent status --json; }
printed() { [ "$(print-agent jobs --json --state completed | grep -c '"id"')" = "$1" ]; }
receipts() { print-agent receipts --after 0 | wc -l; }

print_books() { # FIRST COUNT TOTAL: authorizes, submits and waits until so many are completed in all
    rm -rf messages
    print-agent authority authorize authority --station sambas-01 --random --book "$1" --count "$2" \
        --station-keys sambas-01.public.jwks --out messages >/dev/null || fail authorize
    print-agent submit messages/*.jws >/dev/null || fail submit
    await printed "$3"
}

echo "system: Debian $(cat /etc/debian_version), $(systemctl --version | head -n 1), $(python3 --version)"

step "install"
dpkg -i "$old" >dpkg.log 2>&1 || { cat dpkg.log >&2; fail "dpkg -i"; }
told "installed; $(du -sm /usr/lib/passport-print-agent | cut -f 1) MiB"
require grep -q "run 'print-agent setup' now" dpkg.log
require getent passwd print-agent
require [ "$(id -nG print-agent)" = "print-agent lp dialout" ] # with the rights that the doctor looks for
require [ "$(stat -c '%U %a' $state)" = "print-agent 700" ]
require systemctl is-enabled print-agent.service
require [ "$(property ActiveState)" = inactive ] # nothing to start without a station.toml
require print-agent --version
require test -e /usr/share/man/man1/print-agent.1.gz -o -e /etc/dpkg/dpkg.cfg.d/docker

step "set up"
print-agent setup --station-id sambas-01 --authority-id imigrasi --printer $printer/port --profile page-slip \
    --book-check present >&2 || fail setup
require [ "$(stat -c '%U %a' $state/station.jwks)" = "print-agent 600" ]
print-agent authority init authority --id imigrasi >&2 || fail "authority init"
install -o print-agent -g print-agent -m 600 authority/trust.jwks $state/trust.jwks
# The printer of the drill is a pseudo-terminal, which has no lines for flow control.
sed -i '/^port/a flow = "none"' /etc/print-agent/station.toml
told "configured"

step "start"
systemctl start print-agent.service || fail start
told "serves"
require serves
require [ "$(stat -c '%U:%G %a' /run/print-agent/agent.sock)" = "print-agent:print-agent 660" ]

step "print"
start_printer 20
print_books A0000001 2 2
told "2 books are printed, under the unit's hardening"
require [ "$(property NFileDescriptorStore)" = 1 ]

step "killed"
pid=$(property MainPID)
kill -KILL "$pid"
await restarted
await serves
told "serves again"
require [ "$(property NFileDescriptorStore)" = 1 ]
print_books A0000003 1 3
told "prints again, on the line that was kept"

step "stuck: the watchdog"
mkdir -p /run/systemd/system/print-agent.service.d
printf '[Service]\nWatchdogSec=4\n' >/run/systemd/system/print-agent.service.d/drill.conf
systemctl daemon-reload
systemctl restart print-agent.service || fail restart
sleep 10
restarts=$(property NRestarts)
require [ "$restarts" = 0 ] # nobody brought a book for longer than the watchdog waits
pid=$(property MainPID)
kill -STOP "$pid"
await test ! -d "/proc/$pid"
await serves
require [ "$(property NRestarts)" = 1 ]
told "was killed and serves again"
rm -r /run/systemd/system/print-agent.service.d
systemctl daemon-reload

step "upgrade after a crash, with the journal's log still there"
systemctl kill --signal=KILL print-agent.service
systemctl stop print-agent.service
require test -s $state/journal.db-wal
dpkg -i "$old" >dpkg.log 2>&1 || { cat dpkg.log >&2; fail "install again"; }
await serves
require print-agent journal verify
told "serves again"

step "upgrade while it runs"
before=$(receipts)
dpkg -i "$new" >dpkg.log 2>&1 || { cat dpkg.log >&2; fail upgrade; }
told "upgraded"
await serves
told "serves again"
require [ "$(dpkg-query -f '${Version}' -W passport-print-agent)" = 0.1.1 ]
require [ "$(receipts)" -gt "$before" ]
print_books A0000004 1 4
require print-agent journal verify

step "downgrade where the journal allows it"
dpkg -i "$old" >dpkg.log 2>&1 || { cat dpkg.log >&2; fail downgrade; }
await serves
told "serves again"
dpkg -i "$new" >dpkg.log 2>&1 || fail "upgrade again"
await serves

step "refused downgrade: the journal is newer"
systemctl stop print-agent.service
schema() { python3 -c "import sqlite3; c = sqlite3.connect('$state/journal.db'); c.execute('PRAGMA user_version=$1'); c.commit()"; }
cp -a $state $state.copy
schema 99
if dpkg -i "$old" >dpkg.log 2>&1; then fail "the downgrade was taken"; fi
require grep "0.1.0 is refused: the journal $state/journal.db has schema 99" dpkg.log
require [ "$(dpkg-query -f '${Version} ${db:Status-Status}' -W passport-print-agent)" = "0.1.1 installed" ]
systemctl stop print-agent.service
rm -r $state
mv $state.copy $state
systemctl start print-agent.service || fail "start after the refusal"
require print-agent journal verify
told "refused, and as it was"

step "another python3"
find /usr/lib/passport-print-agent -name __pycache__ -prune -exec rm -r {} +
pid=$(property MainPID)
dpkg-trigger --by-package=python3-minimal /usr/bin/python3
dpkg --configure --pending >dpkg.log 2>&1 || fail "trigger"
require test -d /usr/lib/passport-print-agent/lib/site-packages/agent/__pycache__
require [ "$(property MainPID)" != "$pid" ]
told "compiled anew and restarted"

step "stop while a book is printing"
systemctl stop printer.service
start_printer 1
await idle
rm -r messages
print-agent authority authorize authority --station sambas-01 --random --book A0000005 --out messages >/dev/null
print-agent submit messages/*.jws >/dev/null
prints() { print-agent printers --json | grep -q '"printing"'; }
await prints
started=$(now_ms)
systemctl stop print-agent.service || fail stop
require [ "$(property Result)" = success ]
told "stopped in order"
systemctl start print-agent.service
await printed 5
told "the book is printed once: $(print-agent journal verify)"

step "sealed keys"
systemctl stop print-agent.service
mkdir -p sealed
PRINT_AGENT_CONFIG=sealed/station.toml print-agent setup --station-id sealed-01 --authority-id imigrasi \
    --printer virtual --profile page-slip --book-check none --sealed >&2 || fail "setup --sealed"
require test -s /etc/credstore.encrypted/station.jwks
cp -a /etc/print-agent/station.toml station.toml.kept
cp sealed/station.toml /etc/print-agent/station.toml
sed -i '/^id = "sealed-01"/a state_dir = "/var/lib/print-agent/sealed"' /etc/print-agent/station.toml
install -d -o print-agent -g print-agent -m 700 $state/sealed
install -o print-agent -g print-agent -m 600 authority/trust.jwks $state/sealed/trust.jwks
systemctl start print-agent.service || fail "start with sealed keys"
require [ "$(print-agent status --json | grep -c sealed-01)" = 1 ]
await idle
told "serves with keys that only systemd can open, and with the virtual printer"
systemctl stop print-agent.service
rm -rf $state/sealed /etc/credstore.encrypted
cp station.toml.kept /etc/print-agent/station.toml
systemctl start print-agent.service || fail "start"

step "USB and udev under the unit's hardening"
unit=/usr/lib/systemd/system/print-agent.service
mapfile -t hardening < <(sed -n '/^NoNewPrivileges/,/^\[Install\]/{/^[A-Z].*=/s/^/-p/p}' $unit)
require [ "${#hardening[@]}" -gt 25 ]
require systemd-run --quiet --wait --pipe -pUser=print-agent "${hardening[@]}" /usr/lib/passport-print-agent/bin/python3 -I -c '
import pyudev, usb.core
usb.core.find()
pyudev.Monitor.from_netlink(pyudev.Context()).start()
'
told "libusb and libudev are loaded and answer"

step "security"
systemd-analyze security --no-pager print-agent.service | tail -n 1
systemd-analyze verify --man=no /usr/lib/systemd/system/print-agent.service 2>&1 | sed 's/^/  verify: /'

step "remove"
head=$(print-agent receipts --after 0 | tail -n 1 | sha256sum)
dpkg -r passport-print-agent >dpkg.log 2>&1 || { cat dpkg.log >&2; fail remove; }
told "removed"
require test -s $state/journal.db
require test -s /etc/print-agent/station.toml
require [ ! -e /usr/lib/passport-print-agent ]
require [ ! -e /usr/bin/print-agent ]
if systemctl is-active print-agent.service >&2; then fail "still runs"; fi

step "install again"
dpkg -i "$new" >dpkg.log 2>&1 || { cat dpkg.log >&2; fail "install again"; }
await serves
told "serves"
require print-agent journal verify
require [ "$(print-agent receipts --after 0 | head -n "$(($(receipts) - 1))" | tail -n 1 | sha256sum)" = "$head" ]

step "purge"
systemctl stop printer.service
dpkg -P passport-print-agent >dpkg.log 2>&1 || { cat dpkg.log >&2; fail purge; }
told "purged"
require grep "$state is kept" dpkg.log
require test -s $state/journal.db -a -s $state/station.jwks
require [ ! -e /etc/print-agent ]
require getent passwd print-agent
if dpkg-query -W passport-print-agent >&2; then fail "dpkg still knows it"; fi

echo "done: all"
