#!/usr/bin/env bash
# One run of one method. scripts/<method>/<script>.sh are links to this file, which takes both from the link's own path:
# the scripts differ in nothing else, so there is nothing to keep the same.
# What the scripts do, their arguments and environment variables: bash scripts/coop/base2new_train.sh --help
# What a run is stands in sweep/protocols.py.
set -euo pipefail

SELF=${BASH_SOURCE[0]}
if [ ! -L "$SELF" ]; then
    echo "usage: bash scripts/METHOD/SCRIPT.sh, such as scripts/coop/base2new_train.sh DATASET SEED (or --help)" >&2
    exit 2
fi
METHOD=$(basename "$(cd "$(dirname "$SELF")" && pwd)")
ROOT=$(cd "$(dirname "$SELF")/../.." && pwd)
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
exec "${PYTHON:-python}" -m sweep.one "$METHOD" "$(basename "$SELF" .sh)" "$@"
