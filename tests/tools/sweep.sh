#!/bin/sh
# Ends and removes all that a test's daemon left in its folder: processes, cgroups, mounts, bridges, rules, the folder
# itself.
#   usage: sweep.sh DIR     DIR/data is its data directory, DIR/instance holds the name of its cgroups
set -u
dir=$1
[ -n "$dir" ] && [ -f "$dir/instance" ] || exit 0
instance=$(cat "$dir/instance")
cgroups="/sys/fs/cgroup/longshore/$instance /sys/fs/cgroup/longshore.slice/longshore-containers-$instance.service"
for hierarchy in /sys/fs/cgroup/*/; do cgroups="$cgroups ${hierarchy}longshore/$instance"; done
# By the paths in their arguments: the daemon (or it would start everything again), shims and followers. The pattern comes by
# a pipe so that grep does not find itself.
ours() { printf '%s\n' "$dir/data" | grep -lF -f - /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3; }
inside() { for cgroup in $cgroups; do cat "$cgroup"/*/cgroup.procs 2>/dev/null; done; }
tries=0
while pids=$(ours; inside); [ -n "$pids" ] && [ $tries -lt 200 ]; do
  kill -9 $pids 2>/dev/null
  tries=$((tries + 1))
  sleep 0.02
done
grep -F " $dir/" /proc/mounts | cut -d' ' -f2 | sort -r | xargs -r umount -l
# Bridges say whose they are; rules are in tables of its name. Most tests are in network namespaces of their own, which end with them.
for folder in /sys/class/net/ls-*; do
  [ -r "$folder/ifalias" ] && grep -q "^longshore $instance " "$folder/ifalias" && ip link del "${folder##*/}"
done
if command -v nft >/dev/null && [ -d /sys/class/net ]; then
  for family in inet ip bridge; do nft delete table $family "longshore_$instance" 2>/dev/null; done
fi
for cgroup in $cgroups; do [ -d "$cgroup" ] && find "$cgroup" -depth -type d -exec rmdir {} \; ; done
rm -rf "$dir"
