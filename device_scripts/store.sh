#!/system/bin/sh
# The content store on the phone: blobs named by their SHA-256. Plain POSIX sh; runs under mksh with toybox's tools.
#
#   store.sh ROOT check               stdin: a SHA-256 a line. Prints `whole SHA`, or `part SHA BYTES` of received parts
#   store.sh ROOT receive             stdin: a tar of blobs, each named by its SHA-256. Prints `came` before its check
#   store.sh ROOT append SHA BYTES    stdin: the rest of a blob of that size. Prints `came` before its check
#   store.sh ROOT adopt SHA BYTES FILE     the same with a complete FILE in ROOT/store/incoming from another transfer
#   store.sh ROOT link BUNDLE         stdin: `MODE SHA NAME` a line; makes BUNDLE's folder of links to blobs
#   store.sh ROOT unlink BUNDLE       removes BUNDLE's folder, and the remains of `ask` sessions older than a day
#   store.sh ROOT clean               removes the blobs that no bundle links to; prints `freed KILOBYTES`
#   store.sh ROOT clean-all           removes everything; prints the same
#   store.sh ROOT list                prints the paths in ROOT, one a line; nothing if ROOT does not exist
#   store.sh ROOT restore             stdin: the output of `list`. Removes newer files from the store, except blobs
#                                     that a bundle links to, and ROOT if it did not exist and is empty
#
# Blobs in ROOT/store are complete: a blob gets its name after its checksum was verified here. Incoming blobs are in
# ROOT/store/incoming, where each `receive` has a separate folder: several computers may push at once. The script is
# passed to `sh -c`, so nothing has to be on the phone first.
root=$1 command=$2
store=$root/store
incoming=$store/incoming

sum_of() {
  # shellcheck disable=SC2046  # the sum and the name
  set -- $(sha256sum <"$1")
  echo "$1"
}

size_of() {
  # shellcheck disable=SC2046  # some print spaces before it
  set -- $(wc -c <"$1")
  echo "$1"
}

# used_kb: the size of ROOT on the disk
used_kb() {
  # shellcheck disable=SC2046  # size and name
  set -- $(du -s -k "$root" 2>/dev/null)
  echo "${1:-0}"
}

# is_coming FOLDER: whether the `receive` of the folder, identified by its process id, still runs
is_coming() {
  kill -0 "${1##*.}" 2>/dev/null && tr '\000' '\n' 2>/dev/null <"/proc/${1##*.}/cmdline" | grep -q -F 'is_coming()'
}

# sort_out FOLDER: stores complete blobs of a tar, removes the rest and the folder; fails if there was a rest
sort_out() {
  cd "$1" 2>/dev/null || return 0
  whole=$(sha256sum -- * 2>/dev/null | while read -r sum name; do [ "$sum" = "$name" ] && echo "$name"; done)
  # shellcheck disable=SC2086  # checksums
  [ -z "$whole" ] || mv -f $whole "$store" || return 1
  damaged=
  for blob in *; do
    [ -f "$blob" ] && rm -f "$blob" && damaged=yes
  done
  cd "$incoming" && rmdir "$1"
  [ -z "$damaged" ]
}

# name_it FILE SHA: moves the file into the store if its checksum matches
name_it() {
  [ "$(sum_of "$1")" = "$2" ] || { rm -f "$1"; echo "it arrived damaged" >&2; exit 1; }
  chmod 644 "$1" && mv -f "$1" "$store/$2"
}

case $command in
check)
  mkdir -p "$incoming" || exit 1
  for folder in "$incoming"/tar.*; do
    [ ! -d "$folder" ] || is_coming "$folder" || sort_out "$folder" # remains of a lost connection
  done
  cd "$store" || exit 1
  beside=
  echo | xargs -n 4 -P 4 true 2>/dev/null && beside='-n 4 -P 4'
  # shellcheck disable=SC2086  # options
  xargs $beside sha256sum 2>/dev/null | while read -r sum name; do
    if [ "$sum" = "$name" ]; then echo "whole $name"; else rm -f "$name"; fi
  done
  cd "$incoming" || exit 1
  find . -type f ! -name '*.part' ! -path './tar.*' -mmin +60 -exec rm -f {} + # remains of a crashed phone
  for part in *.part; do
    [ -f "$part" ] && echo "part ${part%.part} $(size_of "$part")"
  done
  exit 0
  ;;
receive)
  folder=$incoming/tar.$$
  mkdir -p "$folder" && cd "$folder" || exit 1
  tar -x -f -
  code=$?
  echo came
  sort_out "$folder" || { echo "it arrived damaged" >&2; code=1; }
  exit "$code"
  ;;
append)
  part=$incoming/$3.part
  # never with bs=: toybox 0.8.9 then writes behind its buffer after a short read
  dd ibs=1048576 obs=1048576 >>"$part" || { rm -f "$part"; exit 1; }
  echo came
  size=$(size_of "$part")
  [ "$size" -le "$4" ] || rm -f "$part" # two were sending it at once
  [ "$size" = "$4" ] || { echo "not all of it came" >&2; exit 1; }
  name_it "$part" "$3"
  ;;
adopt)
  [ "$(size_of "$incoming/$5")" = "$4" ] || { rm -f "$incoming/$5"; echo "not all of it came" >&2; exit 1; }
  name_it "$incoming/$5" "$3"
  ;;
link)
  mkdir -p "$root/$3" && cd "$root/$3" || exit 1
  while read -r mode sha name; do
    case $name in */*) [ -d "${name%/*}" ] || mkdir -p "${name%/*}" || exit 1 ;; esac
    [ "$mode" = 644 ] || chmod "$mode" "$store/$sha" || exit 1 # 644 is the default
    ln -sfn "$store/$sha" "$name" || exit 1
  done
  ;;
unlink)
  rm -rf "${root:?}/${3:?}"
  find "$root" -maxdepth 1 -type d -name 'ask-*' -mmin +1440 -exec rm -rf {} +
  ;;
clean)
  [ -d "$store" ] || { echo "freed 0"; exit 0; }
  before=$(used_kb)
  linked=$incoming/linked.$$
  mkdir -p "$incoming" && cd "$store" || exit 1
  find "$root" -type l | while read -r link; do readlink "$link"; done >"$linked" || exit 1
  for blob in *; do
    [ -f "$blob" ] || continue
    grep -q -F -x "$store/$blob" "$linked" || rm -f "$blob"
  done
  rm -rf "$incoming"
  echo "freed $((before - $(used_kb)))"
  ;;
clean-all)
  before=$(used_kb)
  rm -rf "$root" || exit 1
  echo "freed $before"
  ;;
list)
  find "$root" 2>/dev/null
  exit 0
  ;;
restore)
  newline='
'
  stays=$newline$(cat; find "$root" -type l 2>/dev/null | while read -r link; do readlink "$link"; done)$newline
  find "$store" -depth 2>/dev/null | while read -r path; do
    case $stays in *"$newline$path$newline"*) continue ;; esac
    if [ -d "$path" ]; then rmdir "$path" 2>/dev/null; else rm -f "$path"; fi
  done
  case $stays in *"$newline$root$newline"*) ;; *) rmdir "$root" 2>/dev/null ;; esac
  exit 0
  ;;
*)
  echo "store.sh: unknown command: $command" >&2
  exit 2
  ;;
esac
