#!/bin/sh
# Runs Debian's docker-registry on a loopback port, in the foreground, with its blobs in DIR.
#   usage: registry.sh PORT DIR
set -eu
port=$1 dir=$2
mkdir -p "$dir"
cat > "$dir/config.yml" <<YAML
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $dir/blobs}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
YAML
exec docker-registry serve "$dir/config.yml"
