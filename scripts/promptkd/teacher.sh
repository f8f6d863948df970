#!/usr/bin/env bash
# Train PromptKD's teacher, a PromptSRC on ViT-L/14: teacher.sh DATASET SEED [KEY VALUE ...]
exec bash "$(dirname "$0")/distil.sh" teacher PromptSRC "$@"
