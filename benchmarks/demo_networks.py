"""Trains the networks that come with ``unlabel demo``, and writes them into the package.

::

    python benchmarks/demo_networks.py FOLDER    trains into FOLDER; then replaces the networks in the package

Each is trained by the command that its record then holds, in a process of its own with one thread. What
FOLDER holds already is not trained again. The package gets no log of the steps, and no seconds: a page would
compare the seconds of this machine with those of another.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from sklearn.metrics import roc_auc_score

from unlabel.cli.demo_networks import FILES, LIST, SHIPPED, DemoSettings, networks_of
from unlabel.core import engine
from unlabel.core.files import RECORD, write_json
from unlabel.core.reading import file_sha256, read_json
from unlabel.data import load
from unlabel.models.features import outputs
from unlabel.runs.files import CONFIG, MODEL
from unlabel.runs.folder import load_run

DRAWINGS = 300


def main() -> None:
    folder, settings = Path(sys.argv[1]), DemoSettings()
    networks = networks_of(settings)
    folder.mkdir(parents=True, exist_ok=True)
    for network in networks:
        program, *words = shlex.split(network.command(settings))
        if not (folder / network.name / RECORD).is_file():
            line = [sys.executable, "-m", program, *words]
            subprocess.run(line, cwd=folder, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for network in networks:
        (SHIPPED / network.name).mkdir(exist_ok=True)
        for file in (MODEL, CONFIG):
            shutil.copyfile(folder / network.name / file, SHIPPED / network.name / file)
        record = read_json(folder / network.name / RECORD)
        del record["seconds"]
        write_json(SHIPPED / network.name / RECORD, record)
    listed = {
        "files": {
            item.name: {file: file_sha256(SHIPPED / item.name / file) for file in FILES} for item in networks
        },
        "drawings": DRAWINGS,
        "auc": auc_of("original", DRAWINGS),
    }
    write_json(SHIPPED / LIST, listed)


def auc_of(name: str, drawings: int) -> dict[str, float]:
    """The AUC of each label of a shipped network on the first test drawings."""
    loaded = load_run(SHIPPED / name)
    test = load(f"faces:train=1,probe=1,test={drawings},size={loaded.config.image_size}").test
    logits = outputs(loaded.model, test, engine.start(accelerator="cpu")).logits
    pairs = zip(loaded.config.labels, test.target.T, logits.T, strict=True)
    return {label: round(float(roc_auc_score(target, logit)), 4) for label, target, logit in pairs}


if __name__ == "__main__":
    main()
