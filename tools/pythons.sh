#!/usr/bin/env bash
# Tests the wheel like a user: builds sdist and wheel, installs the wheel with its dependencies into an empty
# environment of each Python, and runs the demo from an empty folder. With --tests, also runs the core tests.
#
#   tools/pythons.sh [--tests] [VERSION...]      such as 3.13; without one: each of 3.11, 3.12, 3.13 that is here
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tests=false
if [ "${1:-}" = --tests ]; then
  tests=true
  shift
fi

# the interpreter of a version: on the PATH, or pyenv's
python_of() {
  local each
  for each in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if "$each" -c '' 2>/dev/null; then
      echo "$each"
      return
    fi
  done
}

python3 -m venv "$folder/build"
"$folder/build/bin/pip" install -q build
if ! "$folder/build/bin/python" -m build --outdir "$folder/dist" . >"$folder/log" 2>&1; then # the wheel from the sdist
  cat "$folder/log"
  exit 1
fi
ls "$folder/dist"

optional=false
if [ $# = 0 ]; then
  optional=true
  set -- 3.11 3.12 3.13
fi
ran=0
for version in "$@"; do
  python=$(python_of "$version")
  if [ -z "$python" ]; then
    echo "Python $version is not here: not tried"
    "$optional" || exit 1
    continue
  fi
  environment="$folder/$version"
  "$python" -m venv "$environment"
  "$environment/bin/pip" install -q "$folder"/dist/*.whl
  mkdir "$environment/empty"
  (cd "$environment/empty" && env -i PATH=/usr/bin:/bin HOME="$environment/empty" COLUMNS=160 \
    "$environment/bin/mbqa-bundle" demo >demo.txt)
  echo "Python $version: $(tail -1 "$environment/empty/demo.txt")"
  grep -q '^12 of 12 right' "$environment/empty/demo.txt"
  if "$tests"; then
    # shellcheck source=tools/core_tests.sh
    . tools/core_tests.sh
    "$environment/bin/pip" install -q "$(echo "$folder"/dist/*.whl)[test]"
    "$environment/bin/python" -m pytest -q -n auto --dist loadfile -p no:cacheprovider -m "$CORE_MARKS" "${CORE_TESTS[@]}"
  fi
  ran=$((ran + 1))
done
[ "$ran" -gt 0 ]
