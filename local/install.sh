#!/usr/bin/env bash
# `make install`: checks what must be there, makes .venv from pinned requirements, fetches Spark's jars.
# Safe to repeat and to interrupt: the stamp is written last.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "marquee: $*" >&2; exit 2; }
say() { echo "$*" >&2; }

log=.venv/install.log
quietly() { # runs a command with its output in the log; shows the end of it where it fails
    "$@" >>"$log" 2>&1 || { tail -20 "$log" >&2; fail "set-up failed at: $*  (all of it: $log)"; }
}

debian() { command -v apt-get >/dev/null; }
hint() { if debian; then echo "sudo apt-get install $1"; else echo "brew install $2"; fi; }

[ -n "${PYTHON:-}" ] || fail "Python 3.11 or 3.12 is needed: $(hint 'python3 python3-venv' python@3.12)"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || fail "Python's venv module is needed: $(hint python3-venv python@3.12)"
java="${JAVA_HOME:+$JAVA_HOME/bin/}java"
version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1) || true
[ "${version:-0}" -ge 17 ] 2>/dev/null || fail "Java 17 is needed (found ${version:-none}): $(hint openjdk-17-jre-headless openjdk@17)"

if ! .venv/bin/python -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,12))' 2>/dev/null; then
    say "Making .venv with $PYTHON"
    rm -rf .venv
    "$PYTHON" -m venv .venv
fi
: >"$log"
say "Installing the pinned Python packages (about 310; a few minutes the first time)"
quietly .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/uv.txt
quietly .venv/bin/uv pip install --quiet --python .venv/bin/python -r requirements/dev.txt
quietly .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
say "Fetching Spark's jars"
quietly .venv/bin/python -m jobs.lake.jars
touch .venv/.installed
say "Ready."
