#!/bin/sh
# Makes a small root folder of Debian's static busybox, with its applets, a passwd file and what else is named.
#   usage: busybox-root.sh DIR [PROGRAM...]
set -eu
dir=$1
shift
mkdir -p "$dir/bin" "$dir/etc" "$dir/tmp" "$dir/proc" "$dir/sys" "$dir/dev" "$dir/home/app"
chmod 1777 "$dir/tmp"
cp /bin/busybox "$dir/bin/busybox"
for applet in $("$dir/bin/busybox" --list); do
  [ "$applet" = busybox ] || ln -sf busybox "$dir/bin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n' > "$dir/etc/passwd"
printf 'root:x:0:\napp:x:1000:\nmedia:x:2000:app\n' > "$dir/etc/group"
for program in "$@"; do cp "$program" "$dir/bin/"; done
