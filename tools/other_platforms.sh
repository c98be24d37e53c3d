#!/usr/bin/env bash
# Checks macOS, Windows and later Pythons as far as possible here (3.11 is mypy's default): mypy with their declarations
# of the standard library. On macOS and Windows only names that they lack count, outside of platforms.py and of the
# virtual phone, which is for Linux.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT

later() {
  mypy --strict --cache-dir "$cache/$1" --python-version "$1" bundler
}

other() {
  local lacking
  lacking=$(mypy --strict --cache-dir "$cache/$1" --platform "$1" bundler |
    grep -E '\[(attr-defined|import-not-found)\]' | grep -vE '^bundler/(virtual/|platforms\.py:)' || true)
  echo "$1: ${lacking:-no name that it lacks}"
  [ -z "$lacking" ]
}

# two at a time: mypy takes one core
later 3.12 & first=$!
later 3.13
wait "$first"
other darwin & first=$!
other win32
wait "$first"
