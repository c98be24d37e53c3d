#!/system/bin/sh
# The run on the phone, detached from adb: computes chunks of the input list, and continues without a cable.
# Plain POSIX sh; runs under mksh with toybox's tools, in the same folder as the bundle's runner scripts.
#
#   job.sh start RUNTIME ID PROFILE PLATFORM_OPTIONS FALLBACK CHUNK ENGINE
#                          stdin: names of chunks, one a line: the new queue. Starts the job if it does not run,
#                          and then prints what is `seen`
#   job.sh status RUNTIME [SEEN]  prints the status, KEY=VALUE a line. Waits up to a second while it is still SEEN
#   job.sh give RUNTIME NAME     prints a finished chunk: `#KEY=VALUE`, `SHA-256  PATH`, an empty line, the archive
#   job.sh forget RUNTIME NAME   deletes a finished chunk
#   job.sh answer RUNTIME ID PROFILE PLATFORM_OPTIONS FALLBACK CHUNK ENGINE NAME FILE SHA
#                          stdin: a chunk's archive, of that SHA-256, for inputs/FILE. Computes it, forgets all earlier
#                          chunks, and prints the outputs as `give` does; a lost cable does not end it
#   job.sh stop RUNTIME    ends the job; the next start begins the current chunk again
#   job.sh log RUNTIME     prints the output of the runs: if it is more than 4 MB, the first megabyte and the last
#
# ENGINE selects the script that computes a chunk: run_ENGINE.sh, in the same folder as this one.
# A chunk NAME is inputs/NAME.tar or inputs/NAME.tgz: an input_list.txt and its raw files. Its outputs become
# done/NAME.tgz (.tar without gzip) with done/NAME.sums. A bundle has one job: `lock` is a link whose target names its
# owner; it is broken when the owner is gone.
here=$(cd "$(dirname "$0")" && pwd)
command=$1 runtime=$2
job=$here/jobs/$runtime
lock=$here/lock
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)

# runs PID TEXT: whether the process's command line contains the text (null bytes end a line for busybox's grep)
runs() {
  tr '\000' '\n' 2>/dev/null <"/proc/$1/cmdline" | grep -q -F "$2"
}

# owner_lives OWNER, which is PID:BOOT:RUNTIME
owner_lives() {
  rest=${1#*:}
  [ "${rest%:*}" = "$boot" ] && kill -0 "${1%%:*}" 2>/dev/null && runs "${1%%:*}" "$here/job.sh"
}

# holder: the living owner, if any
holder() {
  held=$(readlink "$lock" 2>/dev/null) && owner_lives "$held" && echo "$held"
}

# end PID SIGNAL: signals the owner's job. Without setsid it has no process group: the script handles the signal only
# after the program that it waits for has ended, so the program is signalled too
end() {
  kill -s "$2" -- "-$1" 2>/dev/null && return
  kill -s "$2" "$1" 2>/dev/null
  program=$(cat "$job/work/pid" 2>/dev/null) && runs "$program" "$here/" && kill -s "$2" "$program" 2>/dev/null
}

# running_here: paths in /proc of the processes whose command lines contain this bundle's folder; or of all processes,
# if grep ends at null bytes, as busybox's does
running_here() {
  if printf 'a\000b\n' | grep -q -F b; then
    grep -l -F "$here/" /proc/[0-9]*/cmdline 2>/dev/null
  else
    ls -d /proc/[0-9]*
  fi
}

# break_stale_lock: removes only the lock of an owner that is gone, and ends the processes that it left. These are
# recognised by this bundle's model, or its prepared file, in the command line, never by a process id, which may be
# reused
break_stale_lock() {
  held=$(readlink "$lock" 2>/dev/null) || return 0
  owner_lives "$held" && return 0
  mv -f "$lock" "$lock.$$" 2>/dev/null || return 0
  if [ "$(readlink "$lock.$$")" != "$held" ]; then
    mv -f "$lock.$$" "$lock"
    return 0
  fi
  rm -f "$lock.$$"
  for entry in $(running_here); do
    process=${entry#/proc/}
    process=${process%%/*}
    for model in model.dlc htp/; do
      runs "$process" "$here/$model" && kill -9 "$process" 2>/dev/null
    done
  done
}

# say_state STATE [CHUNK [EXIT_CODE [FREE_KB]]]: writes the state file atomically
say_state() {
  printf 'state=%s\nchunk=%s\nexit=%s\nfree_kb=%s\n' "$1" "${2:-}" "${3:-}" "${4:-}" >state.draft &&
    mv -f state.draft state
}

# look: sets `seen`, which changes with state, chunk and the finished chunks. Starts no process
look() {
  word='' current=''
  { read -r word && read -r current; } 2>/dev/null <state
  set -- done/*.tgz done/*.tar
  seen=$word:$current:$#:$1
}

# free_kb: the last line of df is FILESYSTEM 1K-BLOCKS USED AVAILABLE USE% MOUNTED-ON
free_kb() {
  df -k . | {
    while read -r _ _ _ available _; do last=$available; done
    echo "$last"
  }
}

# fail CHUNK EXIT_CODE [WORDS]: frees space first, so that words and state can be written on a full disk too
fail() {
  wait
  free=$(free_kb)
  rm -rf work next done/*.draft
  [ -z "${3:-}" ] || echo "$3" >>log.txt
  say_state failed "$1" "$2" "$free"
  exit 1
}

# first_but NAME: the first chunk in the queue other than NAME
first_but() {
  for entry in queue/*; do
    [ "$entry" = "queue/$1" ] && continue
    [ -e "$entry" ] && echo "${entry##*/}"
    return
  done
}

# now: nanoseconds if `date` supports them, else seconds
now() {
  case $(date +%N 2>/dev/null) in '' | *[!0-9]*) date +%s ;; *) date +%s%N ;; esac
}

# unpack CHUNK: unpacks its inputs into `next`
unpack() {
  rm -rf next && mkdir next && cd next || return 1
  if [ -e "$here/inputs/$1.tgz" ]; then gzip -dc <"$here/inputs/$1.tgz" | tar -x -f -; else tar -x -f "$here/inputs/$1.tar"; fi
}

# watch: records the peak memory of infer's process, from the kernel, and limits the size of its log, until the process
# is gone
watch() {
  trap - EXIT TERM
  waits=0
  until process=$(cat work/pid 2>/dev/null) && [ -n "$process" ]; do
    [ "$waits" -lt 20 ] || return
    waits=$((waits + 1))
    sleep 0.1
  done
  while peak=$(grep VmHWM: "/proc/$process/status" 2>/dev/null); do
    echo "$peak" >work/peak
    trim
    sleep 0.5
  done
}

# trim: keeps the head and the tail of a growing log. The file remains: its writer appends to it
trim() {
  [ "$(($(wc -c <work/log)))" -gt 4000000 ] || return
  [ -e work/head ] || head -c 1000000 work/log >work/head
  tail -c 1000000 work/log >work/tail
  : >work/log
}

# infer CHUNK: runs it. Returns the exit code
infer() {
  rm -f work/pid work/peak work/log work/head work/tail
  watch 2>/dev/null &
  watcher=$!
  # shellcheck disable=SC2154,SC2016  # set by the settings file; the process id is the inner shell's
  sh -c 'echo $$ >work/pid && exec sh "$@"' infer \
    "$here/run_$engine.sh" "$used" "$profile" "$job/work" "$platform_options" >>work/log 2>&1
  code=$?
  kill -9 "$watcher" 2>/dev/null # it must not write into a removed `work`; mksh handles other signals after its `sleep`
  wait "$watcher" 2>/dev/null
  cat work/head work/tail work/log 2>/dev/null >>log.txt
  if [ "$(($(wc -c <log.txt)))" -gt 4000000 ]; then # in place: this script's own output goes into the same file
    { head -c 1000000 log.txt && echo && echo "[...]" && tail -c 1000000 log.txt; } >log.draft && cat log.draft >log.txt
    rm -f log.draft
  fi
  return "$code"
}

# pack CHUNK BEGIN: packs its outputs and makes checksums in parallel; it is done when both files have their names. The
# times of the outputs, if `find` reports them, are seconds and nanoseconds, which toybox does not pad with zeros
pack() {
  cd "work/output/$used" || return 1
  sums=$job/done/$1.sums
  {
    printf '#runtime=%s\n#begin=%s\n#end=%s\n' "$used" "$2" "$(now)"
    [ -e "$job/work/peak" ] && read -r _ peak _ <"$job/work/peak" && echo "#peak_kb=$peak"
    find . -name '*.raw' -printf '#time=%T@ %p\n' 2>/dev/null
    find . -type f -exec sha256sum {} +
  } >"$sums.draft" &
  if command -v gzip >/dev/null; then
    archive=$job/done/$1.tgz
    tar -c -f - . | gzip -1 >"$archive.draft" || return 1
  else
    archive=$job/done/$1.tar
    tar -c -f "$archive.draft" . || return 1
  fi
  wait "$!" && cd "$job" && mv -f "$sums.draft" "$sums" && mv -f "$archive.draft" "$archive"
}

work() {
  cd "$job" || exit 1
  ln -s "$$:$boot:$runtime" "$lock" 2>/dev/null || exit 0
  trap 'rm -f "$lock"' EXIT
  trap 'trap "" TERM; say_state stopped; exit 0' TERM # stop sends another one if this one does not end it at once
  # shellcheck disable=SC1091  # made by start
  . ./settings
  rm -rf work old-* # of a killed job
  used=$runtime ahead='' unpacker=
  while [ ! -e stop ] && name=$(first_but '') && [ -n "$name" ]; do
    say_state running "$name"
    { [ -n "$unpacker" ] && wait "$unpacker" && [ "$name" = "$ahead" ]; } ||
      why=$(unpack "$name" 2>&1) || fail "$name" unpack "$why"
    mv next work || exit 1
    begin=$(now)
    ahead=$(first_but "$name") unpacker='' # during the computation of this one
    [ -z "$ahead" ] || { unpack "$ahead" >/dev/null 2>&1 & unpacker=$!; }
    infer "$name"
    code=$?
    # shellcheck disable=SC2154
    if [ "$code" != 0 ] && [ -n "$fallback" ] && [ "$used" != "$fallback" ]; then
      used=$fallback
      infer "$name"
      code=$?
    fi
    [ "$code" = 0 ] || fail "$name" "$code"
    why=$(pack "$name" "$begin" 2>&1) || fail "$name" pack "$why"
    rm -f "queue/$name" && mv work "old-$name" || exit 1
    rm -rf "old-$name" &
  done
  wait
  rm -rf next
  if [ -e stop ]; then say_state stopped; else say_state finished; fi
}

# take_settings ID PROFILE PLATFORM_OPTIONS FALLBACK CHUNK ENGINE
take_settings() {
  for setting in "$@"; do # they are read back as shell
    case $setting in *[!A-Za-z0-9_:\;.,=+-]*) echo "no setting: $setting" >&2; exit 2 ;; esac
  done
  settings=$(printf "run='%s'\nprofile='%s'\nplatform_options='%s'\nfallback='%s'\nchunk_size='%s'\nengine='%s'" "$@")
}

# detach: starts the job as a separate process, whose id is $!
detach() {
  if command -v setsid >/dev/null; then
    setsid sh "$0" work "$runtime" </dev/null >/dev/null 2>>log.txt &
  else
    (trap '' HUP && exec sh "$0" work "$runtime") </dev/null >/dev/null 2>>log.txt &
  fi
}

# give NAME: does not return
give() {
  cd "$job/done" || exit 1
  for archive in "$1.tgz" "$1.tar"; do
    [ -e "$archive" ] || continue
    echo "#bytes=$(($(wc -c <"$archive")))"
    cat "$1.sums" && echo && exec cat "$archive"
  done
  exit 1
}

case $command in
start)
  take_settings "$3" "$4" "$5" "$6" "$7" "$8"
  break_stale_lock
  held=$(holder)
  if [ -n "$held" ] && { [ "${held##*:}" != "$runtime" ] || [ "$settings" != "$(cat "$job/settings")" ]; }; then
    echo "busy=${held##*:}"
    exit 75
  fi
  if [ -z "$held" ] && [ "$settings" != "$(cat "$job/settings" 2>/dev/null)" ]; then rm -rf "$job"; fi
  mkdir -p "$job/queue" "$job/done" && cd "$job" && echo "$settings" >settings || exit 1
  cat >wanted || exit 1
  for entry in queue/*; do
    grep -q -F -x "${entry#queue/}" wanted || rm -f "$entry"
  done
  while read -r name; do : >"queue/$name" || exit 1; done <wanted
  rm -f stop wanted
  [ -n "$held" ] && exit 0
  say_state starting
  detach
  waits=0
  look
  while [ "$word" = state=starting ] && [ "$waits" -lt 250 ]; do
    sleep 0.02
    look
    waits=$((waits + 1))
  done
  echo "seen=$seen"
  ;;
work) work ;;
status)
  cd "$job" 2>/dev/null || { echo state=none; exit 0; }
  look
  waits=0
  while [ "$seen" = "${3:-}" ] && [ "$waits" -lt 20 ]; do
    sleep 0.05
    look
    waits=$((waits + 1))
  done
  echo "seen=$seen"
  held=$(holder) # before the state: a job that ends in between must look alive, not killed
  echo "alive=$([ "${held##*:}" = "$runtime" ] && echo yes)"
  cat settings state 2>/dev/null
  set -- work/output/*/Result_*
  [ -e "$1" ] && echo "begun=$#"
  for entry in queue/*; do [ -e "$entry" ] && echo "queued=${entry#queue/}"; done
  for entry in done/*.tgz done/*.tar; do
    [ -e "$entry" ] && name=${entry#done/} && echo "done=${name%.*}"
  done
  exit 0
  ;;
give) give "$3" ;;
answer)
  take_settings "$3" "$4" "$5" "$6" "$7" "$8"
  break_stale_lock
  held=$(holder)
  [ -z "$held" ] || { echo "busy=${held##*:}"; exit 75; }
  rm -rf "$job" && mkdir -p "$here/inputs" "$job/queue" "$job/done" && cd "$job" && echo "$settings" >settings || exit 1
  cat >inputs.draft || exit 1
  # shellcheck disable=SC2046  # the sum and the name
  set -- "$9" "${10}" "${11}" $(sha256sum <inputs.draft)
  [ "$3" = "${4:-}" ] || { echo "it arrived damaged" >&2; exit 1; }
  mv -f inputs.draft "$here/inputs/$2" && : >"queue/$1" || exit 1 # never through an existing link
  detach
  wait "$!"
  give "$1"
  ;;
forget) rm -f "$job/done/$3.tgz" "$job/done/$3.tar" "$job/done/$3.sums" ;;
stop)
  waits=0 signal=TERM
  while held=$(holder) && [ "${held##*:}" = "$runtime" ] && [ "$waits" -lt 50 ]; do
    : >"$job/stop"
    [ "$waits" -lt 30 ] || signal=KILL
    # every half second: a child that is being forked may lose the signal, and the script waits for its child
    [ "$((waits % 5))" != 0 ] || end "${held%%:*}" "$signal"
    waits=$((waits + 1))
    sleep 0.1
  done
  [ "$signal" = TERM ] || { cd "$job" && say_state stopped; }
  exit 0
  ;;
log) cat "$job/log.txt" 2>/dev/null ;;
*)
  echo "job.sh: unknown command: $command" >&2
  exit 2
  ;;
esac
