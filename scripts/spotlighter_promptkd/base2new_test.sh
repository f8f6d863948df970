#!/usr/bin/env bash
# Test PromptKD with Spotlighter on the new classes: base2new_test.sh DATASET SEED [KEY VALUE ...]
exec bash "$(dirname "$0")/../promptkd/distil.sh" test Spotlighter "$@"
