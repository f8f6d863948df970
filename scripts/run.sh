#!/usr/bin/env bash
# One run of one method. scripts/<method>/<script>.sh are links to this file, which takes both from the link's own path:
# the scripts differ in nothing else, so there is nothing to keep the same.
#
#   base2new_train.sh DATASET SEED    trains on the base classes, tests on them     -> OUTPUT/base2new/train_base/...
#   base2new_test.sh DATASET SEED     tests that run's model on the new classes     -> OUTPUT/base2new/test_new/...
#   few_shot.sh DATASET SHOTS SEED    trains and tests on all classes               -> OUTPUT/fewshot/...
#   xd_train.sh SEED                  few_shot.sh of SOURCE                         -> OUTPUT/fewshot/SOURCE/...
#   xd_test.sh TARGET SEED            tests that model on another data set          -> OUTPUT/xd/TARGET/...
#   dg_test.sh TARGET SEED            ... on a shifted one: imagenetv2, imagenet_sketch, imagenet_a, imagenet_r or
#                                     embedded_shapes_{dark,lowres,negative,sketch} -> OUTPUT/dg/TARGET/...
#
# After these arguments: [KEY VALUE ...] for the config. From the environment, all optional:
#   DATA    folder of the data sets    (data)             OUTPUT  folder of the runs  (output)
#   SHOTS   training images a class    (16)               CFG     configs/trainers/METHOD/CFG.yaml
#   DEVICE  cpu, or the number of a GPU (the first GPU, if there is one)
#   SOURCE  data set that xd and dg train on  (imagenet; embedded_shapes if the target is embedded)
#   for PromptKD, alone or as a host, whose *train.sh and few_shot.sh train its teacher first, on the same images:
#   TEACHER_CFG  configs/trainers/PromptSRC/TEACHER_CFG.yaml  (vit_l14; embedded if CFG is)
#   TEACHER_DIR  folder of another teacher's run, such as one of the authors'; then none is trained
# A finished run is skipped; one that broke off goes on. What a run is stands in sweep/protocols.py.
set -euo pipefail

SELF=${BASH_SOURCE[0]}
if [ ! -L "$SELF" ]; then
    echo "usage: a method's script, such as scripts/coop/base2new_train.sh DATASET SEED" >&2
    exit 2
fi
METHOD=$(basename "$(cd "$(dirname "$SELF")" && pwd)")
ROOT=$(cd "$(dirname "$SELF")/../.." && pwd)
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
exec "${PYTHON:-python}" -m sweep.one "$METHOD" "$(basename "$SELF" .sh)" "$@"
