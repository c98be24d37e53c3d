#!/system/bin/sh
# Says what a deploy must know of the phone, one KEY=VALUE a line. Plain POSIX sh; runs under mksh with toybox's tools.
#   probe.sh FOLDER      FOLDER: where bundles will lie; it is made, and the free space of its file system is told
# Fed to `sh -s` on standard input, so nothing has to be pushed first.
folder=$1
echo "soc=$(getprop ro.soc.model)"
echo "platform=$(getprop ro.board.platform)"
echo "abi=$(getprop ro.product.cpu.abi)"
echo "model=$(getprop ro.product.model)"
echo "android=$(getprop ro.build.version.release)"
echo "net_run=$(command -v snpe-net-run)"
if mkdir -p "$folder" && [ -w "$folder" ]; then
  echo "writable=yes"
fi
# the last line of df: FILESYSTEM 1K-BLOCKS USED AVAILABLE USE% MOUNTED-ON
df -k "$folder" | {
  last=
  while read -r line; do last=$line; done
  # shellcheck disable=SC2086  # split into the columns
  set -- $last
  echo "free_kb=${4:-}"
}
