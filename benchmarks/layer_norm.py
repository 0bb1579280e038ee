"""`auto` on networks with LayerNorm, beside retrained ones.

python benchmarks/layer_norm.py --out DIR [--networks vit,convnext]        docs/results/networks.md

A small ViT and a small ConvNeXt of timm are trained with AdamW on drawings of faces, and again without Male;
then `auto` forgets Male, and the audit judges it. Networks and audits are kept in DIR: a run that was ended
goes on where it was.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import unlabel
from networks import LABEL, SIDE, learn, networks
from unlabel.core.engine import Run
from unlabel.data.dataset import Source
from unlabel.models.head import find_head, remove_rows, removed_output

SOURCE = "faces:train=12000,probe=3000,test=3000"
EPOCHS = 12
RETRAINED = 3
ROLES = ("before", "after", "reference")


def trained(name: str, seed: int, source: Source, out: Path, run: Run, *, without: bool) -> nn.Module:
    """A network, from DIR if it was trained there; without the label, its output is a constant."""
    labels = list(source.labels)
    column = labels.index(LABEL)
    torch.manual_seed(seed)
    model = networks()[name](len(labels))
    file = out / f"{name}-{'without' if without else 'original'}-{seed}.pt"
    if file.is_file():
        model.load_state_dict(torch.load(file, weights_only=True))
        return model.eval()
    started = time.perf_counter()
    columns = [at for at in range(len(labels)) if not (without and at == column)]
    learn(model.train(), source.train, run, columns=columns, epochs=EPOCHS, seed=seed)
    if without:
        head = find_head(model, len(labels))[1]
        remove_rows(head, [column], [removed_output(source.train, column)])
    print(f"{file.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    torch.save(model.state_dict(), file)
    return model.eval()


FIGURES = ("probe.adv.lin", "probe.adv.mlp", "others.adv.lin", "others.adv.gbt", "util.auc.macro")


def show(name: str, audit: dict[str, Any]) -> None:
    """Verdicts, and a Markdown table of every model."""
    verdicts = ", ".join(f"{claim} {found['verdict']}" for claim, found in audit["claims"].items())
    print(f"\n## {name}\n\n{audit['headline']}: {verdicts}\n")
    print("| model | " + " | ".join(FIGURES) + " |\n" + "| --- " * (len(FIGURES) + 1) + "|")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in audit["metrics"]:
        if row["model"] in ROLES and row["id"] in FIGURES and row["label"] in (LABEL, None):
            rows.setdefault((row["model"], row["run"]), {})[row["id"]] = row
    for (role, _), found in sorted(rows.items(), key=lambda item: ROLES.index(item[0][0])):
        cells = [f"{found[figure]['value']:.3f}" if figure in found else "" for figure in FIGURES]
        print(f"| {role} | " + " | ".join(cells) + " |")


def main() -> None:
    """Trains, forgets and audits what is missing in DIR, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", default="vit,convnext")
    parser.add_argument("--budget", default="standard")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    run, source = unlabel.start(accelerator="cpu"), unlabel.load(SOURCE, image_size=SIDE)
    for name in given.networks.split(","):
        file = given.out / f"{name}-{given.budget}.json"
        if not file.is_file():
            original = trained(name, 0, source, given.out, run, without=False)
            others = [
                trained(name, seed, source, given.out, run, without=True) for seed in range(1, RETRAINED + 1)
            ]
            outcome = unlabel.forget_labels(original, [LABEL], source.train, method="auto", run=run)
            audit = unlabel.audit_model(
                original, outcome.model, others, source, LABEL, budget=given.budget, run=run
            )
            check = outcome.self_check
            made = {"options": outcome.options, "check": check and dict(check)}
            file.write_text(json.dumps({**made, "audit": audit.to_json()}))
        show(name, json.loads(file.read_text())["audit"])


if __name__ == "__main__":
    main()
