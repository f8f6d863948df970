#!/usr/bin/env bash
# Train the teacher, then the student; test it on the base classes: base2new_train.sh DATASET SEED [KEY VALUE ...]
exec bash "$(dirname "$0")/distil.sh" train PromptKD "$@"
