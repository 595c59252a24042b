#!/usr/bin/env bash
# Writes launch/constraints-gpu.txt: the versions that every GPU installation takes, resolved for
# Linux on x86_64 and Python 3.11 and 3.12 from the extras that the launch files install. Run it
# after a change of pyproject.toml, read the difference, and commit both.
#   bash launch/constraints.sh [--check]     --check: only says whether the file is up to date
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RAY_VERSION=$(sed -n 's/^ARG RAY_VERSION=//p' launch/Dockerfile)
OUT=launch/constraints-gpu.txt
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

printf 'ray==%s\n' "$RAY_VERSION" >"$WORK/ray.txt"
# The versions that are written already are kept where they still fit; each pass keeps what it can
# of the one before, so that the last one fits both Pythons.
[[ ! -f $OUT ]] || cp "$OUT" "$WORK/out.txt"
for python in 3.12 3.11 3.12 3.11; do
  UV_PYTHON_DOWNLOADS=never uv pip compile pyproject.toml --quiet --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links \
    --extra gpu --extra lora --extra fp8 --extra mix --extra s3 --extra deepspeed \
    --constraint "$WORK/ray.txt" --python-platform x86_64-manylinux_2_28 \
    --python-version "$python" --output-file "$WORK/out.txt" >/dev/null
done
{
  printf '# Made by launch/constraints.sh from pyproject.toml; pip install -c this-file ".[gpu]".\n'
  cat "$WORK/out.txt"
} >"$WORK/whole.txt"
if [[ ${1:-} == --check ]]; then
  diff -u "$OUT" "$WORK/whole.txt" && exit 0
  echo "$OUT does not fit pyproject.toml; run launch/constraints.sh" >&2
  exit 1
fi
mv "$WORK/whole.txt" "$OUT"
