#!/usr/bin/env bash
# What can be said here about macOS, Windows and later Pythons: mypy with their declarations of the standard library.
# On macOS and Windows only names count that they lack, outside of platforms.py and of the virtual phone, which is for
# Linux.
set -euo pipefail
cd "$(dirname "$0")/.."
for version in 3.11 3.12 3.13; do
  mypy --strict --python-version "$version" bundler
done
for platform in darwin win32; do
  lacking=$(mypy --strict --platform "$platform" bundler | grep -E '\[(attr-defined|import-not-found)\]' |
    grep -vE '^bundler/(virtual/|platforms\.py:)' || true)
  echo "$platform: ${lacking:-no name that it lacks}"
  [ -z "$lacking" ]
done
