#!/usr/bin/env bash
# base2new.sh for PromptKD, alone or as a host: distil.sh teacher|train|test METHOD DATASET SEED [KEY VALUE ...]
#
#   teacher  trains the teacher on the base classes           -> OUTPUT/base2new/train_base/.../PromptSRC/TEACHER_CFG
#   train    the same, then trains METHOD from that teacher   (a finished teacher is skipped)
#   test     tests METHOD on the new classes
#
# From the environment, beside what base2new.sh takes, all optional:
#   TEACHER_DIR  folder of another teacher's run, such as one of the authors'; then none is trained
#   TEACHER_CFG  configs/trainers/PromptSRC/TEACHER_CFG.yaml    (vit_l14; embedded for embedded_*)
#   CFG          is METHOD's alone
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ $# -lt 4 ]; then
    exec bash "$ROOT/scripts/base2new.sh" "$@" # which says how it is used
fi
PHASE=$1 METHOD=$2 DATASET=$3 SEED=$4
shift 4
case $DATASET in
    embedded_*) STUDENT=embedded TEACHER_CFG=${TEACHER_CFG:-embedded} ;;
    *) STUDENT=vit_b16 TEACHER_CFG=${TEACHER_CFG:-vit_l14} ;;
esac
case $METHOD in
    Spotlighter) CFG=${CFG:-${STUDENT}_promptkd} ;;
    *) CFG=${CFG:-$STUDENT} ;;
esac

base2new() { # CFG train|test METHOD [KEY VALUE ...]
    CFG=$1 bash "$ROOT/scripts/base2new.sh" "$2" "$3" "$DATASET" "$SEED" "${@:4}"
}

if [ "$PHASE" = teacher ]; then
    base2new "$TEACHER_CFG" train "$METHOD" "$@"
    exit
fi
if [ -z "${TEACHER_DIR:-}" ]; then
    RUN=$DATASET/shots_${SHOTS:-16}/PromptSRC/$TEACHER_CFG/seed$SEED # as base2new.sh names it
    TEACHER_DIR=${OUTPUT:-$ROOT/output}/base2new/train_base/$RUN
    if [ "$PHASE" = train ]; then
        base2new "$TEACHER_CFG" train PromptSRC
    fi
fi
base2new "$CFG" "$PHASE" "$METHOD" TRAINER.PROMPTKD.TEACHER_DIR "$TEACHER_DIR" "$@"
