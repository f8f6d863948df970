#!/usr/bin/env bash
# Train on the base classes and test on them: base2new_train.sh DATASET SEED [KEY VALUE ...]
exec bash "$(dirname "$0")/../base2new.sh" train KgCoOp "$@"
