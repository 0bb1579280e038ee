"""How the golden files are made, for `make.py`, and read again, for the test.

::

    runs/base less again    a run folder of each kind; `less` is audited (quick), reported and signed
    standard/               the audit of the same models by the standard budget, its page and its card
    tables.npz              every table of outputs that both audits were computed from
    photos/ predicted.csv   eight images, and what runs/less predicts for them
    help/                   the help of every command and of every method
    ada.pub                 the public key of the signature
"""

import contextlib
import gzip
import io
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

GOLDEN = Path(__file__).parent
RUNS, STANDARD, TABLES, HELP = GOLDEN / "runs", GOLDEN / "standard", GOLDEN / "tables.npz", GOLDEN / "help"
NETWORK = "golden_network:make"
IMAGES, CANARIES, SHOWN = 400, 20, 4
WIDTH = "100"
FRAME = dict.fromkeys(map(ord, "│╭╮╰╯─"))  # what stands around the words of a help text
SIGNED_AT = "2026-11-24T18:00:00Z"
SIZES: dict[str, Any] = {
    "probe_seeds": 2, "epochs": 5, "trees": 10, "permutations": 5, "resamples": 50, "rare": 20,
    "few": (8, 32), "few_judged": 32, "draws": 4, "canaries": 20, "raw_image": False,
}  # fmt: skip


@contextlib.contextmanager
def trusted() -> Iterator[None]:
    """Makes the network of the golden runs importable, as a user who has named it would."""
    path = [str(GOLDEN), *sys.path]
    with mock.patch.dict(os.environ, {"UNLABEL_TRUST": NETWORK}), mock.patch.object(sys, "path", path):
        yield


def helps() -> dict[str, str]:
    """The words of the help of every command and of every method, by what calls it, 100 columns wide."""
    from unlabel.cli.app import build_app
    from unlabel.forget.methods import METHODS

    names = [name for name in build_app() if not name.startswith("-")]
    calls = [(), *((name,) for name in names), *(("forget", name) for name in METHODS)]
    plain = {"COLUMNS": WIDTH, "TERM": "dumb", "NO_COLOR": "1"}
    with mock.patch.dict(os.environ, plain):
        return {" ".join(call) or "unlabel": _printed([*call, "--help"]) for call in calls}


def _printed(arguments: list[str]) -> str:
    from unlabel.cli.app import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(arguments)
    lines = (" ".join(line.translate(FRAME).split()) for line in out.getvalue().splitlines())
    return "\n".join(line for line in lines if line) + "\n"


Tables = Mapping[str, Any]


def packed(inputs: Any) -> dict[str, Any]:
    """Every table that an audit was computed from, by its place."""
    subjects = inputs.subjects
    found: dict[str, Any] = {}
    for name in ("probe", "test", "train"):
        data = getattr(inputs, name)
        found |= {f"{name}/{part}": getattr(data, part) for part in ("rows", "target", "cluster", "ids")}
    for at, subject in enumerate(subjects):
        place = f"subject{at}"
        found |= {f"{place}/run": subject.run, f"{place}/absent": sorted(subject.absent)}
        found |= {f"{place}/weight": subject.head[0], f"{place}/bias": subject.head[1]}
        for name in ("probe", "test", "train"):
            found |= _outputs(f"{place}/{name}", getattr(subject, name))
        if (near := subject.perturbed) is not None:
            for name in ("probe", "test"):
                found |= _outputs(f"{place}/near/{name}", getattr(near, name))
                found[f"{place}/near/{name}_rows"] = getattr(near, f"{name}_rows")
    for item in inputs.altered:
        at = next(at for at, subject in enumerate(subjects) if subject.run == item.subject.run)
        for name in ("probe", "test"):
            found |= _outputs(f"altered/{item.transform}/{at}/{name}", getattr(item.subject, name))
    for item in inputs.canaries:
        found |= {f"canaries/{item.label}/{part}": getattr(item, part) for part in ("planted", "true")}
        for at, subject in enumerate(subjects):
            found |= _outputs(f"canaries/{item.label}/{at}", item.outputs[subject.run])
    for name, outputs in zip(("probe", "test"), inputs.random_init, strict=True):
        found |= _outputs(f"random/{name}", outputs)
    return found


def _outputs(place: str, outputs: Any) -> dict[str, Any]:
    return {f"{place}/logits": outputs.logits, f"{place}/features": outputs.features["penultimate"]}


def unpacked(tables: Tables, audit: Mapping[str, Any]) -> dict[str, Any]:
    """What `packed` was given, for an audit of either budget; its other facts are those that it recorded."""
    from unlabel.audit.inputs.perturbed_images import Perturbed
    from unlabel.audit.inputs.subject import Altered, Canaries, Subject
    from unlabel.core.request import Request
    from unlabel.data.dataset import Dataset
    from unlabel.models.outputs import Outputs

    def outputs(place: str) -> Outputs:
        return Outputs(tables[f"{place}/logits"], {"penultimate": tables[f"{place}/features"]})

    asked = audit["request"]
    labels = tuple(audit["models"]["before"]["labels"])
    parts = {}
    for name in ("probe", "test", "train"):
        rows, target, cluster, ids = (
            tables[f"{name}/{part}"] for part in ("rows", "target", "cluster", "ids")
        )
        parts[name] = Dataset(np.zeros((1, 1, 1, 3), np.uint8), rows, target, cluster, ids, labels)
    subjects = []
    for at, role in enumerate(("before", "after", "reference")):
        place = f"subject{at}"
        near = None
        if f"{place}/near/probe_rows" in tables:
            rows = (tables[f"{place}/near/{name}_rows"] for name in ("probe", "test"))
            near = Perturbed(outputs(f"{place}/near/probe"), outputs(f"{place}/near/test"), *rows)
        subjects.append(
            Subject(
                str(tables[f"{place}/run"]),
                role,
                *(outputs(f"{place}/{name}") for name in ("probe", "test", "train")),
                frozenset(tables[f"{place}/absent"].tolist()),
                (tables[f"{place}/weight"], tables[f"{place}/bias"]),
                near,
            )
        )
    inputs: dict[str, Any] = {
        "before": subjects[0],
        "after": subjects[1],
        "references": subjects[2:],
        "request": Request.make(asked["labels"], labels, forgotten=asked["forgotten_earlier"]),
        **parts,
        "random_init": (outputs("random/probe"), outputs("random/test")),
        "deterministic": audit["data"]["deterministic"],
        "facts": audit["data"],
        "models": audit["models"],
    }
    if audit["options"]["budget"] == "quick":
        return inputs
    keys = dict.fromkeys(tuple(key.split("/")[1:3]) for key in tables if key.startswith("altered/"))
    changed = [(name, int(at)) for name, at in keys]
    return inputs | {
        "altered": [
            Altered(
                name,
                replace(
                    subjects[at],
                    probe=outputs(f"altered/{name}/{at}/probe"),
                    test=outputs(f"altered/{name}/{at}/test"),
                ),
            )
            for name, at in changed
        ],
        "canaries": [
            Canaries(
                label,
                tables[f"canaries/{label}/planted"],
                tables[f"canaries/{label}/true"],
                {subject.run: outputs(f"canaries/{label}/{at}") for at, subject in enumerate(subjects)},
            )
            for label in dict.fromkeys(key.split("/")[1] for key in tables if key.startswith("canaries/"))
        ],
    }


def read_text(path: Path) -> str:
    """The text of a golden file, packed or not."""
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")


def again(audit: Mapping[str, Any]) -> dict[str, Any]:
    """The audit computed anew from the stored tables, as ``audit.json`` holds it."""
    from unlabel.audit.inputs.options import AuditOptions
    from unlabel.audit.inputs.tables import AuditInputs
    from unlabel.audit.protocol import audit_outputs

    with np.load(TABLES) as tables:
        given = unpacked(dict(tables), audit)
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in audit["options"].items()}
    return audit_outputs(AuditInputs(**given), AuditOptions(**options)).to_json()
