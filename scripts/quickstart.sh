#!/usr/bin/env bash
# The main job on one embedded set: four methods, trained on base classes, tested on base and new, one table.
# These are the scripts a user of Caltech101 calls; only the name of the data set differs.
set -euo pipefail
unset CDPATH # with it `cd` goes elsewhere, and prints where
ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
cd "$ROOT"
DATASET=${DATASET:-embedded_species}
SEED=${SEED:-1}
# The tiny CLIP leaves a second thread nothing to do, and two of them wait for each other where others use the machine.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export DATA=${DATA:-$ROOT/data} OUTPUT=${OUTPUT:-$ROOT/output} PYTHON=${PYTHON:-python}

case $DATASET in embedded_*) "$PYTHON" -m datasets.embedded --root "$DATA" --sets "$DATASET" ;; esac
for METHOD in zsclip coop spotlighter spotlighter_zeroshot; do
    bash "scripts/$METHOD/base2new_train.sh" "$DATASET" "$SEED"
    bash "scripts/$METHOD/base2new_test.sh" "$DATASET" "$SEED"
done
"$PYTHON" parse_test_res.py "$OUTPUT/base2new" --table base2new
