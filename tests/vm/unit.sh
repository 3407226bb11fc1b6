#!/bin/sh
# Installs Longshore from its unit file as the README says, and shows what of it survives what. Runs inside of a machine with
# systemd; changes that machine.
#   usage: unit.sh STAGE       a folder with the program `longshore`, `longshore.service` and the scripts of tests/tools
set -u
stage=$1
failures=0
work=$(mktemp -d /root/longshore-unit.XXXXXX)

say() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
is() { # is WHAT EXPECTED FOUND
  if [ "$2" = "$3" ]; then echo "ok: $1: $3"; else echo "NOT OK: $1: expected $2, found $3"; failures=$((failures + 1)); fi
}
holds() { # holds WHAT COMMAND...
  what=$1; shift
  if "$@" >/dev/null 2>&1; then echo "ok: $what"; else echo "NOT OK: $what"; failures=$((failures + 1)); fi
}
wait_for() { # wait_for SECONDS WHAT COMMAND...
  seconds=$1 what=$2; shift 2
  tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt $((seconds * 10)) ]; then
      echo "NOT OK: waited $seconds s in vain for: $what"; failures=$((failures + 1))
      longshore status; systemctl status longshore --no-pager | tail -30; journalctl -u longshore --no-pager | tail -30
      return 1
    fi
    sleep 0.1
  done
}
up() { longshore status; }
pid_of() { longshore inspect "$1" | jq -r '.state.pid // .pid // ([..|.pid?|numbers]|first)'; }
cgroup_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
limit_of() { cat "/sys/fs/cgroup$(cgroup_of "$1")/$2"; }
ends() { ! kill -0 "$1"; }
main_pid() { systemctl show -p MainPID --value longshore; }
ours() { find /sys/fs/cgroup -type d -path '*longshore*' ! -path '*/longshore.service*'; }

say "the machine"
uname -r; systemctl --version | head -1; stat -f -c 'cgroups: %T' /sys/fs/cgroup; cat /sys/fs/cgroup/cgroup.controllers

say "a registry on loopback with an image"
"$stage/registry.sh" 5000 "$work/registry" > "$work/registry.log" 2>&1 &
registry=$!
wait_for 60 "the registry" curl -fsS http://127.0.0.1:5000/v2/
"$stage/busybox-root.sh" "$work/root"
image=$("$stage/push-image.sh" 127.0.0.1:5000 test/busybox latest "$work/root" '{"Cmd":["/bin/sh"],"Env":["PATH=/bin"]}')
echo "$image"

say "install"
install -m 0755 "$stage/longshore" /usr/local/bin/
install -d -m 0755 /etc/longshore/state
install -m 0644 "$stage/longshore.service" /etc/systemd/system/
run systemctl daemon-reload
run systemctl enable --now longshore
wait_for 60 "the daemon" up
is "the unit" active "$(systemctl is-active longshore)"

say "a service"
mkdir "$work/shop"
cat > "$work/shop/compose.yaml" <<YAML
services:
  web:
    image: $image
    network_mode: none
    init: true
    command: sh -c 'trap "exit 0" TERM; while :; do sleep 1 & wait; done'
YAML
mv "$work/shop" /etc/longshore/state/shop
run longshore status --wait --timeout 120s
pid=$(pid_of shop-web-1)
case $pid in ''|null) echo "NOT OK: it does not run"; journalctl -u longshore --no-pager | tail -30; exit 1;; esac
echo "pid $pid"; cat "/proc/$pid/cgroup"
is "its pids limit" 4096 "$(limit_of "$pid" pids.max)"
echo "controllers: $(limit_of "$pid" cgroup.controllers)"
for controller in cpu cpuset io memory pids; do
  holds "the controller $controller reaches the container" grep -qw $controller "/sys/fs/cgroup$(cgroup_of "$pid")/cgroup.controllers"
done
cgroup=$(cgroup_of "$pid")

say "a service with users of its own, in a slice, with limits"
echo longshore:524288:16777216 | tee -a /etc/subuid >> /etc/subgid
# Who gives ids to containers is looked up when the daemon starts.
run systemctl restart longshore
wait_for 60 "the daemon" up
mkdir "$work/own"
cat > "$work/own/compose.yaml" <<YAML
services:
  web:
    image: $image
    network_mode: none
    userns_mode: auto
    cgroup_parent: shop.slice
    mem_limit: 64m
    pids_limit: 100
    command: sleep 100000
YAML
mv "$work/own" /etc/longshore/state/own
run longshore status --wait --timeout 120s
own=$(pid_of own-web-1)
cat "/proc/$own/cgroup" "/proc/$own/uid_map"
is "its root on the host" 524288 "$(stat -c %u "/proc/$own")"
is "its slice" /shop.slice/ "$(cgroup_of "$own" | grep -o '^/shop.slice/')"
is "its memory limit" 67108864 "$(limit_of "$own" memory.max)"
is "its pids limit" 100 "$(limit_of "$own" pids.max)"
run longshore exec own/web cat /proc/self/uid_map
is "its root to what is executed" "0 524288 65536" "$(longshore exec own/web cat /proc/self/uid_map | tr -s ' ' | sed 's/^ //')"
run systemctl daemon-reload
is "its memory limit" 67108864 "$(limit_of "$own" memory.max)"
run rm -r /etc/longshore/state/own
wait_for 60 "its end" ends "$own"
retired() { ! systemctl list-units --plain --no-legend 'longshore-containers-*' | grep -q -- -shop.service; }
wait_for 60 "the end of its unit" retired

say "the daemon is killed"
daemon=$(main_pid)
run kill -9 "$daemon"
wait_for 60 "another daemon" sh -c "[ \$(systemctl show -p MainPID --value longshore) != $daemon ] && longshore status"
run longshore status --wait --timeout 120s
is "the container's process" "$pid" "$(pid_of shop-web-1)"
is "its cgroup" "$cgroup" "$(cgroup_of "$pid")"

say "the unit is restarted"
run systemctl restart longshore
wait_for 60 "the daemon" up
is "the container's process" "$pid" "$(pid_of shop-web-1)"
is "its pids limit" 4096 "$(limit_of "$pid" pids.max)"

say "systemd reads its units again"
# A limit that systemd knows nothing of: it must not be lost either.
run longshore status >/dev/null
echo 123453440 > "/sys/fs/cgroup$cgroup/memory.high" || failures=$((failures + 1))
run systemctl daemon-reload
run systemctl daemon-reexec
is "the container's process" "$pid" "$(pid_of shop-web-1)"
is "its cgroup" "$cgroup" "$(cgroup_of "$pid")"
is "its pids limit" 4096 "$(limit_of "$pid" pids.max)"
is "a limit of its own" 123453440 "$(limit_of "$pid" memory.high)"
# Other units come and go, and systemd writes what they need into the same tree.
run systemd-run --quiet --wait -p MemoryMax=50M -p CPUQuota=50% true
is "its pids limit" 4096 "$(limit_of "$pid" pids.max)"
is "a limit of its own" 123453440 "$(limit_of "$pid" memory.high)"

say "the unit is stopped, the container runs on"
run systemctl stop longshore
is "the unit" inactive "$(systemctl is-active longshore)"
holds "the container lives" kill -0 "$pid"
echo "left in the unit's own cgroup: $(cat /sys/fs/cgroup/system.slice/longshore.service/cgroup.procs 2>/dev/null | tr '\n' ' ')"
run systemctl start longshore
wait_for 60 "the daemon" up
run longshore status --wait --timeout 120s
is "the container's process" "$pid" "$(pid_of shop-web-1)"
journalctl -u longshore --no-pager -o cat | grep -i 'left-over\|remains running' && echo "(systemd found processes that it did not expect)"

say "the unit of the containers loses its keeper"
unit=$(systemctl list-units --plain --no-legend 'longshore-containers-*' | cut -d' ' -f1)
is "the unit" active "$(systemctl is-active "$unit")"
run kill -9 "$(systemctl show -p MainPID --value "$unit")"
wait_for 20 "systemd to notice" sh -c "[ \$(systemctl is-active $unit) != active ]"
holds "the container lives" kill -0 "$pid"
is "its cgroup" "$cgroup" "$(cgroup_of "$pid")"
cp -r /etc/longshore/state/shop "$work/more" && mv "$work/more" /etc/longshore/state/more
run longshore status --wait --timeout 120s
holds "another one starts beside it" kill -0 "$(pid_of more-web-1)"

say "the containers are stopped by their files"
more=$(pid_of more-web-1)
run rm -r /etc/longshore/state/more
wait_for 60 "its end" ends "$more"
run rm -r /etc/longshore/state/shop
wait_for 60 "its end" ends "$pid"
gone() { [ "$(longshore ps -a | grep -c shop)" = 0 ]; }
wait_for 60 "its removal" gone

say "uninstall"
run systemctl disable --now longshore
rm -rf /var/lib/longshore /etc/systemd/system/longshore.service /etc/longshore /usr/local/bin/longshore
run systemctl daemon-reload
is "cgroups that are left" "" "$(ours | tr '\n' ' ')"
is "units that are left" "" "$(systemctl list-units --all --plain --no-legend 'longshore*' | tr '\n' ' ')"
is "processes that are left" "" "$(pgrep -f longshore-follower | tr '\n' ' ')"
is "failed units" "" "$(systemctl list-units --failed --plain --no-legend 'longshore*')"
kill $registry
rm -rf "$work"
say "unit file test: $failures failures"
[ $failures = 0 ]
