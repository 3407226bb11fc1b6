#!/bin/sh
# Makes a root folder that holds programs of Debian packages and the shared libraries that they need, and nothing else. Packages are
# only downloaded and unpacked: nothing is installed or started on this machine. As root, on Debian. A folder is taken as it is.
#   usage: debian-root.sh DIR PACKAGE... -- PROGRAM-OR-FOLDER...
#   such as: debian-root.sh root redis-server redis-tools -- /usr/bin/redis-server /usr/bin/redis-cli
set -eu
dir=$1
shift
packages=""
while [ $# -gt 0 ] && [ "$1" != -- ]; do packages="$packages $1" && shift; done
[ $# -gt 1 ] || { echo "usage: debian-root.sh DIR PACKAGE... -- PROGRAM-OR-FOLDER..." >&2; exit 2; }
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# Of what packages need, the libraries. The rest (adduser, debconf, ...) is for their installation.
libraries() { apt-cache depends --important "$@" | sed -n 's/^ *|*\(Pre\)*Depends: \(lib[^ ]*\)$/\2/p' | sort -u; }
all() { # all PACKAGE...: these, the libraries that they need, and theirs
  seen=" "
  while [ $# -gt 0 ]; do
    seen="$seen$* "
    new=$(for library in $(libraries "$@"); do case $seen in *" $library "*) ;; *) echo "$library";; esac; done)
    set -- $new
  done
  echo "$seen"
}
fetch() { (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root $(all $packages)); }
fetch 2>/dev/null || { apt-get update -qq && fetch; }
for package in "$work"/*.deb; do dpkg -x "$package" "$work/whole"; done

take() { for file in "$@"; do mkdir -p "$dir${file%/*}" && cp -L "$work/whole$file" "$dir$file"; done; }
mkdir -p "$dir/etc" "$dir/tmp" "$dir/proc" "$dir/sys" "$dir/dev"
chmod 1777 "$dir/tmp"
printf 'root:x:0:0:root:/root:/bin/sh\n' > "$dir/etc/passwd"
printf 'root:x:0:\n' > "$dir/etc/group"
loader=$(cd "$work/whole" && echo lib*/ld-linux*.so.*)
for program in "$@"; do
  [ ! -d "$work/whole$program" ] || { mkdir -p "$dir$program" && cp -aL "$work/whole$program/." "$dir$program" && continue; }
  # The loader of that root says what the program needs there; a library that is not there fails it.
  needs=$(chroot "$work/whole" "/$loader" --list "$program") || { echo "$needs" >&2; exit 1; }
  case $needs in *"not found"*) echo "$needs" >&2; exit 1;; esac
  take "$program" $(echo "$needs" | grep -o '/[^ ]*')
done
