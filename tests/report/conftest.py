"""An audit with known contents, for the tests of the page."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from unlabel.findings import Audit, Claim, Comparison, Metric

PAPER = ["Male", "Young", "Smiling", "Eyeglasses", "Bald", "Mustache", "Wearing_Hat", "Blond_Hair"]
PAPER += ["Heavy_Makeup", "High_Cheekbones"]
HEADLINE = "RETRAIN-EQUIVALENT, DURABILITY NOT TESTED"

# id: (before, after, Retrain), unit, layer, margin
ATTACKS: dict[str, tuple[tuple[float, float, float], str, str | None, float]] = {
    "own.adv": ((0.914, 0.004, 0.012), "adv", None, 0.1),
    "others.adv.lin": ((0.683, 0.541, 0.538), "adv", None, 0.1),
    "others.adv.gbt": ((0.742, 0.569, 0.561), "adv", None, 0.1),
    "probe.adv.lin": ((0.902, 0.634, 0.611), "adv", "penultimate", 0.1),
    "probe.adv.mlp": ((0.918, 0.671, 0.642), "adv", "penultimate", 0.1),
    "probe.bits.lin": ((0.531, 0.232, 0.214), "bits", "penultimate", 0.075),
    "probe.bits.mlp": ((0.566, 0.261, 0.238), "bits", "penultimate", 0.075),
}


def model(run: str, method: str, **more: Any) -> dict[str, Any]:
    """What the report is told about one model."""
    return {
        "run": run,
        "sha256": (run.encode().hex() * 8)[:64],
        "network": "small",
        "weights": 270_090,
        "method": method,
        "options": {"epochs": 10},
        "seed": 0,
        "labels": PAPER,
        "forgotten": [],
        "changed": 0,
        "total": 270_090,
        "images_used": 8000,
        "images_processed": 80_000,
        "steps": 630,
        "seconds": {"data": 1.2, "train": 81.4},
        "device": "cpu",
        "versions": {"unlabel": "0.1.0", "torch": "2.13.0"},
        "start": "random",
        "command": f"unlabel train faces --out {run}",
    } | more


def figure(value: float, half: float) -> dict[str, Any]:
    """A control's figure with its interval."""
    return {"value": value, "ci": [value - half, value + half], "n": 5000, "unit": "adv"}


def audit(
    labels: list[str] | None = None,
    forget: list[str] | None = None,
    references: int = 3,
    **changes: Any,
) -> dict[str, Any]:
    """The parsed audit.json of a run that forgot `forget` about as well as retraining does."""
    labels = labels or PAPER
    forget = forget or labels[:1]
    runs = [("before", "runs/base"), ("after", "runs/no-male")]
    runs += [("reference", f"runs/retrain-{seed}") for seed in range(references)]
    metrics: list[Metric] = []
    comparisons: list[Comparison] = []
    for label in forget:
        for at, (id_, (values, unit, layer, margin)) in enumerate(ATTACKS.items()):
            for order, (role, run) in enumerate(runs):
                value = values[min(order, 2)] + (0.006 * (order - 3) if order > 1 else 0.0)
                half = 0.011 + 0.001 * at
                interval = (max(0.0, value - half), value + half)
                if role != "reference" or id_ != "own.adv":
                    metrics.append(Metric(id_, label, role, run, value, interval, 5000, unit, layer))  # pyright: ignore
            diff = values[1] - values[2]
            if references and id_ != "own.adv":
                comparisons.append(
                    Comparison(id_, label, diff, diff - 0.03, diff + 0.03, margin, "PASS", layer)
                )
        metrics.extend(
            Metric(id_, label, role, run, value, (value - 0.01, value + 0.01), 5000, "adv")
            for role, run, value in (("before", runs[0][1], 0.914), ("after", runs[1][1], 0.004))
            for id_ in ("own.sadv", "own.sadv@train")
        )
        metrics.append(Metric("own.ppr", label, "after", runs[1][1], 0.0, None, 5000, "fraction"))
        metrics.append(
            Metric("own.sadv@restored", label, "after", runs[1][1], 0.021, (-0.01, 0.05), 5000, "adv")
        )
        metrics.append(
            Metric("floor.adv", label, "reference", "ground-truth labels", 0.59, (0.57, 0.61), 5000, "adv")
        )
    if len(forget) > 1:
        comparisons += [replace(item, label=None) for item in comparisons if item.label == forget[0]]
    for at, label in enumerate(x for x in labels if x not in forget):
        for order, (role, run) in enumerate(runs):
            value = 0.97 - 0.013 * (at % 17) - (0.004 * (at % 5) if role == "after" else 0.001 * order)
            metrics.append(
                Metric("util.auc", label, role, run, value, (value - 0.006, value + 0.005), 5000, "auc")
            )
    for order, (role, run) in enumerate(runs):
        value = (0.921, 0.913, 0.9172, 0.9175, 0.9178)[min(order, 4)]
        metrics.append(
            Metric("util.auc.macro", None, role, run, value, (value - 0.003, value + 0.003), 5000, "auc")
        )
    c2 = "PASS" if references else "NOT_EVALUATED"
    untested = Claim("NOT_EVALUATED", "The quick budget does not test this.")
    content = Audit(
        headline=HEADLINE if references else "DISABLED, NO REFERENCE",
        valid=True,
        invalid_because=(),
        request={"labels": forget},
        claims={
            "C1": Claim(
                "PASS", "The output is absent, so it says nothing.", per_label=dict.fromkeys(forget, "PASS")
            ),
            "C2": Claim(
                c2,
                "Every attack found at most 0.10 more than in the retrained models."
                if references
                else "No retrained model was given.",
                provisional=0 < references < 3,
                binding="probe.adv.mlp",
                per_label=dict.fromkeys(forget, c2),
                notes={"attainable": True},
            ),
            "C3": Claim(
                "FAIL",
                "Other labels give it away, as they do in retrained models.",
                notes={"attainable": False},
            ),
            "C4": untested,
            "C5": Claim("PASS", "Kept labels lost less than 0.01 AUC on average against retraining."),
            "C6": untested,
        },
        metrics=tuple(metrics),
        comparisons=tuple(comparisons),
        controls={
            "positive": {
                label: {"attack": "probe.adv.mlp", "lower": 0.907, "passed": True} for label in forget
            },
            "permuted": {
                label: {"others.lin": figure(0.012, 0.04), "probe.lin": figure(0.009, 0.05)}
                for label in forget
            },
            "decoys": {
                label: dict.fromkeys(["bias_shift_60", "bias_shift_130", "inverted", "head_zero"], "FAIL")
                for label in forget
            },
            "floor": {label: figure(0.59, 0.02) for label in forget},
            "raw_image": {label: figure(0.71, 0.02) for label in forget},
            "random_init": {},
        },
        data={
            "source": "faces",
            "counts": {"train": 8000, "probe": 5000, "test": 5000},
            "identities": False,
            "split_rule": "by index",
            "splits": {
                name: {"n": 5000, "n_clusters": 5000, "n_present": dict.fromkeys(forget, 2091)}
                for name in ("P", "E", "T_in")
            },
        },
        options={"alpha": 0.05, "d_chance": 0.1, "d_ref": {"adv": 0.1, "bits": 0.075}},
        models={
            "before": model(runs[0][1], "train", labels=labels),
            "after": model(
                runs[1][1],
                "confusion",
                labels=labels,
                forgotten=forget,
                changed=241_024,
                images_used=2048,
                images_processed=16_384,
                steps=128,
                seconds={"data": 0.8, "forget": 9.1},
                start=runs[0][1],
            ),
            "references": [model(run, "retrain", seed=at + 1) for at, (_, run) in enumerate(runs[2:])],
        },
        not_tested=("durability: fine-tuning, compression", "membership of single pictures"),
        limitations=("Labels are perceived by annotators, not facts about persons.",),
        seconds={"features": 6.2, "probes": 18.4},
    ).to_json()
    return content | changes


@pytest.fixture
def make_audit() -> Callable[..., dict[str, Any]]:
    """Builds the parsed audit.json of a made-up run: labels, forgotten labels, number of references."""
    return audit
