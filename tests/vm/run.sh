#!/bin/sh
# Runs the container tests and a test of the unit file in a machine with systemd and cgroup v2 alone, which a kit boots: a
# script with `build`, `start NAME --dir DIR`, `exec NAME -- COMMAND`, `console NAME` and `rm NAME`. Shows what they print.
#   usage: tests/vm/run.sh KIT [unit|TEST...]      TEST: the name of a file in tests/, without its end; all by default
# VM_TESTS names tests within those files; LONGSHORE names another program than the debug build.
set -eu
kit=$1; shift
here=$(cd "$(dirname "$0")/../.." && pwd)
cd "$here"
[ $# -gt 0 ] || set -- unit run_containers user_namespaces limits
name=longshore-$$
stage=$(mktemp -d /var/tmp/longshore-vm.XXXXXX)
clean_up() { status=$?; trap - EXIT; "$kit" rm "$name" >/dev/null 2>&1 || true; rm -rf "$stage"; exit $status; }
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

tests=
for what; do [ "$what" = unit ] || tests="$tests --test $what"; done
cargo build --locked --bins
program=${CARGO_TARGET_DIR:-$here/target}/debug/longshore
# The test programs know the program by the path that it was built at.
if [ -n "$tests" ]; then
  cargo test --locked --no-run $tests 2>&1 | tee "$stage/built"
  for what; do
    [ "$what" = unit ] && continue
    path=$(sed -n "s|.*Executable tests/$what\.rs (\(.*\))|\1|p" "$stage/built")
    cp "$path" "$stage/test-$what"
  done
fi
# The machine has no compiler; what the tests build there is built here.
mkdir "$stage/bin"
for fixture in work probe; do gcc -static -O1 -w -o "$stage/$fixture" "tests/fixtures/$fixture.c"; done
cat > "$stage/bin/gcc" <<'STUB'
#!/bin/sh
for word; do
  case $word in *.c) fixture=$(basename "$word" .c) ;; esac
  [ "${before:-}" = -o ] && out=$word
  before=$word
done
exec cp "/host/$fixture" "$out"
STUB
chmod +x "$stage/bin/gcc"
strip -o "$stage/longshore" "${LONGSHORE:-$program}" 2>/dev/null || cp "${LONGSHORE:-$program}" "$stage/longshore"
cp tests/tools/*.sh tests/vm/unit.sh examples/longshore.service "$stage/"

"$kit" build
"$kit" start "$name" --dir "$stage" --mem 2048
failed=
for what; do
  printf '\n==== %s\n' "$what"
  if [ "$what" = unit ]; then
    "$kit" exec "$name" --timeout 900 -- "/host/unit.sh /host" || failed="$failed $what"
  else
    "$kit" exec "$name" --timeout 1800 -- "mkdir -p '${program%/*}' && cp /host/longshore '$program' && cd /root && PATH=/host/bin:\$PATH /host/test-$what --test-threads 4 ${VM_TESTS:-}" \
      || failed="$failed $what"
  fi
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
