#!/bin/sh
# A gate in a pipeline: the script ends with an error where a model tells more than it may.
#
#     sh examples/ci_gate.sh
#
# It needs no data. The first three lines stand for what a pipeline has already: a model, and one that forgot.
set -eu

data="faces:train=300,probe=200,test=200,size=32"
unlabel train "$data" --out runs/original --epochs 1 --quiet
unlabel forget head-removal runs/original --labels Male --out runs/forgotten --quiet

# 0: the claim passes. 3: it fails. 4: it is not decided. Any but 0 ends the script here.
unlabel audit runs/forgotten --before runs/original --require C1 --quiet

# 3 if an attack finds more than the limit; 4 if the images are too few to tell.
code=0
unlabel probe runs/forgotten --label Male --fail-above 0.99 --quiet || code=$?
if [ "$code" -eq 3 ]; then
    echo "the model tells too much"
    exit 3
fi
echo "the gate is open"
