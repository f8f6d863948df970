#!/usr/bin/env bash
# The base-to-new protocol, one run: base2new.sh train|test METHOD DATASET SEED [KEY VALUE ...]
#
#   train  trains on the base classes, tests on them     -> OUTPUT/base2new/train_base/...
#   test   tests that run's model on the new classes     -> OUTPUT/base2new/test_new/...
#
# From the environment, all optional:
#   DATA    folder of the data sets    (data)             OUTPUT  folder of the runs  (output)
#   SHOTS   training images a class    (16)               CFG     configs/trainers/METHOD/CFG.yaml
#   DEVICE  cpu, or the number of a GPU (the first GPU, if there is one)
# Further arguments go to the config. A finished run is skipped; one that broke off runs again.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: base2new_train.sh or base2new_test.sh DATASET SEED [KEY VALUE ...]" >&2
    exit 2
fi
PHASE=$1 METHOD=$2 DATASET=$3 SEED=$4
shift 4

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DATA=${DATA:-$ROOT/data}
OUTPUT=${OUTPUT:-$ROOT/output}
SHOTS=${SHOTS:-16}
case $DATASET in
    embedded_*) CFG=${CFG:-embedded} ;;
    *) CFG=${CFG:-vit_b16} ;;
esac
SETTINGS=(DATASET.NUM_SHOTS "$SHOTS")
case ${DEVICE:-} in
    "") ;;
    cpu) SETTINGS+=(USE_CUDA False) ;;
    *) export CUDA_VISIBLE_DEVICES=${DEVICE#cuda:} ;;
esac

RUN=$DATASET/shots_$SHOTS/$METHOD/$CFG/seed$SEED
TRAINED=$OUTPUT/base2new/train_base/$RUN
case $PHASE in
    train)
        FLAGS=(--output-dir "$TRAINED")
        SETTINGS+=(DATASET.SUBSAMPLE_CLASSES base)
        ;;
    test)
        FLAGS=(--output-dir "$OUTPUT/base2new/test_new/$RUN" --model-dir "$TRAINED" --eval-only)
        SETTINGS+=(DATASET.SUBSAMPLE_CLASSES new)
        ;;
    *)
        echo "error: the phase is train or test, not $PHASE" >&2
        exit 2
        ;;
esac

exec "${PYTHON:-python}" "$ROOT/train.py" \
    --root "$DATA" \
    --seed "$SEED" \
    --trainer "$METHOD" \
    --dataset-config-file "$ROOT/configs/datasets/$DATASET.yaml" \
    --config-file "$ROOT/configs/trainers/$METHOD/$CFG.yaml" \
    "${FLAGS[@]}" "$@" "${SETTINGS[@]}"
