#!/bin/sh
# Makes an image with a gzip layer from each folder and pushes it to a plain HTTP registry, by curl alone.
#   usage: push-image.sh REGISTRY REPOSITORY TAG ROOT [CONFIG_JSON [ROOT...]]
#   CONFIG_JSON: the image's `config` object, such as {"Cmd":["/bin/sh"]}
set -eu
registry=$1 repository=$2 tag=$3 root=$4 config=${5:-'{}'}
[ $# -lt 5 ] && shift 4 || shift 5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $(uname -m) in x86_64) arch=amd64;; aarch64) arch=arm64;; *) arch=$(uname -m);; esac
digest() { echo "sha256:$(sha256sum "$1" | cut -d' ' -f1)"; }
size() { stat -c %s "$1"; }
push_blob() {
  location=$(curl -fsS -X POST -o /dev/null -D - "http://$registry/v2/$repository/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
  case $location in *\?*) join='&';; *) join='?';; esac
  curl -fsS -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$1" "$location${join}digest=$(digest "$1")" -o /dev/null
}
diffs='' layers=''
for folder in "$root" "$@"; do
  tar --numeric-owner --owner=0 --group=0 --sort=name --mtime=@1700000000 -C "$folder" -cf "$work/layer.tar" .
  gzip -n -c "$work/layer.tar" > "$work/layer.tgz"
  push_blob "$work/layer.tgz"
  diffs="$diffs${diffs:+,}\"$(digest "$work/layer.tar")\""
  type=application/vnd.oci.image.layer.v1.tar+gzip
  layers="$layers${layers:+,}{\"mediaType\":\"$type\",\"digest\":\"$(digest "$work/layer.tgz")\",\"size\":$(size "$work/layer.tgz")}"
done
cat > "$work/config.json" <<JSON
{"architecture":"$arch","os":"linux","config":$config,"rootfs":{"type":"layers","diff_ids":[$diffs]}}
JSON
cat > "$work/manifest.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"$(digest "$work/config.json")","size":$(size "$work/config.json")},
 "layers":[$layers]}
JSON
push_blob "$work/config.json"
curl -fsS -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary "@$work/manifest.json" \
  "http://$registry/v2/$repository/manifests/$tag" -o /dev/null
echo "$registry/$repository:$tag"
