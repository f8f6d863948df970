#!/usr/bin/env bash
# Train the teacher, then PromptKD with Spotlighter; test on the base classes: base2new_train.sh DATASET SEED [KEY VALUE ...]
exec bash "$(dirname "$0")/../promptkd/distil.sh" train Spotlighter "$@"
