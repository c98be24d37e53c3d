#!/system/bin/sh
# Prints what a deploy must know about the phone, one KEY=VALUE a line. POSIX sh; runs under mksh with toybox's tools.
#   probe.sh FOLDER      FOLDER: the bundles' folder; it is created, and the tools are tested in it
# Passed to `sh -s` on standard input, so nothing has to be pushed first.
# A missing or failing tool gives a missing value, which is no failure; commands that may hang have a time limit.

main() {
  folder=$1
  echo "clock=$(date +%s)"
  echo "soc=$(getprop ro.soc.model)"
  echo "soc_maker=$(getprop ro.soc.manufacturer)"
  echo "platform=$(getprop ro.board.platform)"
  echo "abi=$(getprop ro.product.cpu.abi)"
  echo "model=$(getprop ro.product.model)"
  echo "android=$(getprop ro.build.version.release)"
  echo "net_run=$(command -v snpe-net-run)"
  echo "qnn_net_run=$(command -v qnn-net-run)"
  if mkdir -p "$folder" && [ -w "$folder" ]; then
    echo "writable=yes"
  else
    what_is_there
  fi
  exec 2>/dev/null # only mkdir's errors are reported
  free_space
  sum=$(echo mbqa | sha256sum) # without a file, which fails on a full disk
  try sha256sum test "${sum%% *}" = 1a126e54223e3f77c6ed8363b2c22a04107ade6837dff442e888839f1dfc6ff0
  try_tools
  try setsid setsid true
  echo "selinux=$(limited getenforce)"
  battery
  thermal_zones
}

# what_is_there: prints why the folder cannot be created or written
what_is_there() {
  if [ -d "$folder" ]; then
    echo "there=it cannot be written"
  elif [ -L "$folder" ]; then
    echo "there=a link lies in its place, to $(readlink "$folder"), which is not a folder"
  elif [ -e "$folder" ]; then
    echo "there=a file lies in its place"
  fi
}

# the last line of df: FILESYSTEM 1K-BLOCKS USED AVAILABLE USE% MOUNTED-ON
free_space() {
  df -k "$folder" | {
    last=
    while read -r line; do last=$line; done
    # shellcheck disable=SC2086  # split into the columns
    set -- $last
    echo "free_kb=${4:-}"
  }
}

# try_tools: tests on a line of text whether programs run in the folder, and what the tools support
try_tools() {
  scratch=$folder/.probe.$$
  trap 'cd / && rm -rf "$scratch"' EXIT
  trap 'exit 1' HUP INT TERM
  mkdir -p "$scratch/out" && cd "$scratch" && echo mbqa >a && echo "#!$(command -v sh)" >run && chmod 700 run || return
  try runs_programs ./run
  tar -c -z -f - a | tar -x -z -f - -C out
  try tar_gzip grep -q -x mbqa out/a
  gzip -c <a | gzip -dc >b
  try gzip grep -q -x mbqa b
}

battery() {
  limited dumpsys battery | while read -r key value _; do
    case $key in
    level:) echo "battery_percent=$value" ;;
    temperature:) echo "battery_tenths=$value" ;;
    esac
  done
}

thermal_zones() {
  for zone in /sys/class/thermal/thermal_zone*; do
    type='' temperature=''
    read -r type <"$zone/type" && read -r temperature <"$zone/temp" && echo "zone=$temperature $type"
  done
}

# try KEY COMMAND...: prints KEY=yes if COMMAND succeeds, KEY=no if it fails
try() {
  key=$1
  shift
  if "$@" >&2; then echo "$key=yes"; else echo "$key=no"; fi
}

limited() {
  if command -v timeout >&2; then timeout 5 "$@"; else "$@"; fi
}

main "$@" </dev/null # standard input is this script
exit 0
