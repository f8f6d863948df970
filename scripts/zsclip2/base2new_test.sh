#!/usr/bin/env bash
# Test on the new classes: base2new_test.sh DATASET SEED [KEY VALUE ...]
exec bash "$(dirname "$0")/../base2new.sh" test ZeroshotCLIP2 "$@"
