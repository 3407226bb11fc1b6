#!/bin/sh
# Shows the main job on real input, with a scratch state folder and data directory, and leaves nothing behind.
#   usage: examples/demo.sh [IMAGE]     an image that holds sh and httpd (busybox); made and pushed to a registry of its own if none is named
#   REDIS_IMAGE=… names an image that holds redis-server, REDIS_ROOT=… a folder to make one of; without both, one is made of Debian's
#   package. Where none can be had, the guestbook is left out. What is published is published on loopback only.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
image=${1:-${IMAGE:-}} redis=${REDIS_IMAGE:-}
longshore=${LONGSHORE:-$here/target/release/longshore}
work=$(mktemp -d /tmp/longshore-demo.XXXXXX)
export LONGSHORE_SOCKET="$work/run/longshore.sock"
daemon="" registry=""

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
wait_for() { # wait_for SECONDS WHAT COMMAND...
  seconds=$1 what=$2; shift 2
  tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt $((seconds * 20)) ]; then
      echo "waited $seconds s in vain for: $what" >&2
      "$longshore" status >&2 || true
      tail -20 "$work/daemon.log" >&2 || true
      exit 1
    fi
    sleep 0.05
  done
}
free_port() { # a loopback port that nobody listens on
  port=$1
  while grep -qi ":$(printf %04X "$port") 00000000:0000 0A" /proc/net/tcp; do port=$((port + 1)); done
  echo "$port"
}
ask() { curl -fsS --noproxy '*' --max-time 10 "$@"; }
page() { ask "http://$address/"; }
says() { page | grep -q "$1"; }
look() { printf '$ curl http://%s/\n' "$address"; page; }
start_daemon() {
  "$longshore" daemon --state-dir "$work/state" --data-dir "$work/data" --run-dir "$work/run" >> "$work/daemon.log" 2>&1 &
  daemon=$!
}
settled() { "$longshore" status --wait --timeout 20s; }
pid_of_web() { "$longshore" inspect quickstart-web-1 | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' | head -1; }
instance() { sed -n -e 's|.*/longshore/\([^/]*\)/.*|\1|p' -e 's|.*/longshore-containers-\([^.]*\)[.].*|\1|p' "/proc/$(pid_of_web)/cgroup" | head -1; }
cgroups() { find /sys/fs/cgroup -type d -name "*$instance*" 2>/dev/null | wc -l; }
tables() { nft list tables | grep -c " longshore_$instance" || true; }
links() { grep -c '^ *l[sv]' /proc/net/dev || true; } # bridges and links; other daemons' too
clean_up() {
  status=$?
  trap - EXIT INT TERM
  rm -rf "$work/state/quickstart" "$work/state/guestbook"
  [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null && {
    tries=0
    while "$longshore" ps 2>/dev/null | grep -q -e quickstart -e guestbook && [ $tries -lt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
    kill "$daemon" && wait "$daemon" 2>/dev/null || true
  }
  [ -n "$registry" ] && kill "$registry" 2>/dev/null && wait "$registry" 2>/dev/null || true
  # The daemon lets the host forward; who had not, does not again.
  [ "$forwarding" = 1 ] || echo "$forwarding" > /proc/sys/net/ipv4/ip_forward
  rm -rf "$work"
  exit $status
}
forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
trap clean_up EXIT
trap 'exit 130' INT TERM

[ "$(id -u)" = 0 ] || { echo "the demo makes containers and needs root" >&2; exit 1; }
for program in curl nft; do command -v $program > /dev/null || { echo "the demo needs $program" >&2; exit 1; }; done
links_before=$(links)
mkdir -p "$work/state"
if [ -z "$image" ]; then
  say "A registry on loopback, and a small image of Debian's busybox in it"
  port=$(free_port 15000)
  "$here/tests/tools/registry.sh" "$port" "$work/registry" > "$work/registry.log" 2>&1 &
  registry=$!
  wait_for 10 "the registry" ask "http://127.0.0.1:$port/v2/"
  "$here/tests/tools/busybox-root.sh" "$work/root"
  image=$("$here/tests/tools/push-image.sh" "127.0.0.1:$port" quickstart/busybox latest "$work/root" '{"Cmd":["/bin/sh"],"Env":["PATH=/bin"]}')
  echo "$image"
  if [ -z "$redis" ]; then
    : "${REDIS_ROOT:=$work/redis}"
    [ -d "$REDIS_ROOT" ] || {
      echo "Debian's Redis is downloaded"
      "$here/tests/tools/debian-root.sh" "$REDIS_ROOT" redis-server redis-tools -- /usr/bin/redis-server /usr/bin/redis-cli 2> "$work/redis.log" || true
    }
    [ ! -x "$REDIS_ROOT/usr/bin/redis-server" ] ||
      redis=$("$here/tests/tools/push-image.sh" "127.0.0.1:$port" guestbook/redis latest "$REDIS_ROOT" '{"Cmd":["redis-server"],"Env":["PATH=/usr/bin"],"WorkingDir":"/tmp"}')
    echo "${redis:-there is no Redis: $(tail -1 "$work/redis.log")}"
  fi
fi
address=127.0.0.1:$(free_port 18080)

say "The daemon starts on an empty state folder"
start_daemon
wait_for 10 "the daemon" "$longshore" status
run "$longshore" version

say "The quickstart is dropped into the folder"
mkdir "$work/quickstart"
cp "$here/examples/quickstart/compose.yaml" "$work/quickstart/"
printf 'IMAGE=%s\nADDRESS=%s\n' "$image" "$address" > "$work/quickstart/.env"
mv "$work/quickstart" "$work/state/quickstart"
wait_for 30 "the page" says "Hello from Longshore"
settled >/dev/null
run "$longshore" ps
look

say "The file is edited"
before=$(pid_of_web) instance=$(instance)
sed 's/Hello from Longshore/Hello again, edited/' "$work/state/quickstart/compose.yaml" > "$work/new" && mv "$work/new" "$work/state/quickstart/compose.yaml"
wait_for 20 "the new page" says "Hello again, edited"
settled >/dev/null
look
echo "pid $before -> $(pid_of_web)"

say "The file is broken: what runs keeps running"
good=$(cat "$work/state/quickstart/compose.yaml")
printf '%s\n' "$good" | sed 's/restart:/restrat:/' > "$work/new" && mv "$work/new" "$work/state/quickstart/compose.yaml"
refused() { "$longshore" status | grep -q restrat; }
wait_for 10 "the message" refused
run "$longshore" status || true
look
printf '%s\n' "$good" > "$work/new" && mv "$work/new" "$work/state/quickstart/compose.yaml"

say "The daemon is killed with -9: the container answers on, and is adopted again"
before=$(pid_of_web)
kill -9 "$daemon"; wait "$daemon" 2>/dev/null || true
look
start_daemon
wait_for 10 "the daemon" settled
after=$(pid_of_web)
echo "pid $before -> $after"
[ "$before" = "$after" ] || { echo "the container was replaced" >&2; exit 1; }

if [ -n "$redis" ]; then
  say "An application of two tiers: a guestbook, and Redis in a network without a way out"
  web_address=$address address=127.0.0.1:$(free_port 18090)
  mkdir "$work/guestbook"
  cp "$here/examples/guestbook/compose.yaml" "$work/guestbook/"
  printf 'IMAGE=%s\nREDIS_IMAGE=%s\nADDRESS=%s\n' "$image" "$redis" "$address" > "$work/guestbook/.env"
  mv "$work/guestbook" "$work/state/guestbook"
  wait_for 30 "the guestbook" says "Looked at"
  settled >/dev/null
  run "$longshore" ps
  look
  printf "\$ curl -d 'text=I was here' http://%s/\n" "$address"; ask -d 'text=I was here' "http://$address/"
  echo "The database is found by its name in its own network, and not reached from another:"
  run "$longshore" exec guestbook-web-1 nslookup redis
  database=$("$longshore" exec guestbook-web-1 nslookup redis | sed -n 's/^Address: *\([0-9.]*\)$/\1/p' | tail -1)
  run "$longshore" exec quickstart-web-1 nc -w 1 "$database" 6379 < /dev/null && { echo "the guestbook is not apart" >&2; exit 1; }
  address=$web_address
fi

say "The files are removed: what they made is gone"
echo "now: $(cgroups) cgroups, $(($(links) - links_before)) interfaces, $(tables) nft tables"
for project in "$work"/state/*; do rm -r "$project"; done
gone() { ! says Hello && ! "$longshore" ps -a | grep -q -e quickstart -e guestbook && settled; }
wait_for 20 "its end" gone
run "$longshore" ps -a

say "The daemon is asked to stop"
kill "$daemon"; wait "$daemon" || true
daemon=""
left=$(grep -c "$work" /proc/mounts || true)
echo "left behind: $left mounts, $(cgroups) cgroups, $(($(links) - links_before)) interfaces, $(tables) nft tables"
