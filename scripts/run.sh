#!/usr/bin/env bash
# One run of one method. scripts/<method>/<script>.sh are links to this file, which takes both from the link's own path:
# the scripts differ in nothing else, so there is nothing to keep the same.
# What the scripts do, their arguments and environment variables: bash scripts/coop/base2new_train.sh --help
# What a run is stands in sweep/protocols.py.
set -euo pipefail

unset CDPATH # with it `cd` goes elsewhere, and prints where
SELF=${BASH_SOURCE[0]}
while TARGET=$(readlink "$SELF") && [ "$(basename "$TARGET")" != run.sh ]; do # a user's own link to one of the links
    case $TARGET in /*) SELF=$TARGET ;; *) SELF=$(dirname "$SELF")/$TARGET ;; esac
done
if [ ! -L "$SELF" ]; then
    echo "usage: bash scripts/METHOD/SCRIPT.sh, such as scripts/coop/base2new_train.sh DATASET SEED (or --help)" >&2
    exit 2
fi
HERE=$(cd "$(dirname "$SELF")" && pwd -P)
METHOD=$(basename "$HERE")
ROOT=$(cd "$HERE/../.." && pwd)
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
if [ -z "${PYTHON:-}" ]; then # that of the active environment, or of the .venv that `make` sets up
    PYTHON=python
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$ROOT/.venv/bin/python" ]; then
        PYTHON=$ROOT/.venv/bin/python
    fi
fi
exec "$PYTHON" -m sweep.one "$METHOD" "$(basename "$SELF" .sh)" "$@"
