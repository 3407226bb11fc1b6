#!/bin/sh
# Waits until its standard input is closed, which happens with the end of whoever holds the other side, however it ends; then
# sweeps every folder below BASE, and BASE.
#   usage: setsid janitor.sh BASE
here=$(dirname "$0")
base=$1
trap '' INT TERM HUP
cat >/dev/null
for lab in "$base"/*/; do "$here/sweep.sh" "${lab%/}"; done
rm -rf "$base"
