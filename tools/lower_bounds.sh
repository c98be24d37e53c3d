#!/usr/bin/env bash
# Tests the lowest releases that pyproject.toml allows: installs them in a separate environment and runs the tests that
# use every dependency. Takes about four minutes. With arguments: runs these tests instead.
#
#   tools/lower_bounds.sh [PYTEST-ARGUMENT...]      PYTHON=python3.11
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"${PYTHON:-python3.11}" -m venv "$folder/uv"
"$folder/uv/bin/pip" install -q uv
uv=("$folder/uv/bin/uv" pip)
"$folder/uv/bin/uv" venv -q --python "$folder/uv/bin/python" "$folder/low"
"${uv[@]}" install -q --python "$folder/low/bin/python" --resolution lowest-direct -e '.[test]'
"${uv[@]}" freeze --python "$folder/low/bin/python" |
  grep -E '^(adbutils|filelock|huggingface-hub|jinja2|numpy|onnx|onnxruntime|platformdirs|regex|requests|rich|tokenizers|transformers|typer|urllib3)=='

# shellcheck source=tools/core_tests.sh
. tools/core_tests.sh
"$folder/low/bin/python" -m pytest -q -n auto --dist loadfile -p no:cacheprovider -m "$CORE_MARKS" "${@:-${CORE_TESTS[@]}}"
