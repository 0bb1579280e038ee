"""An audit with known contents, for the tests of the page."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unlabel.audit.document.results import Audit, Claim, Comparison, Metric
from unlabel.report.pictures import STRIPS, Example, Gallery, Picture, address

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


TRANSFORMS = ["fp16", "int8", "int4", "prune20", "prune50", "bn", "retain_ft"]


def rows_of(
    id_: str, label: str | None, values: Any, unit: str, half: float = 0.012, **more: Any
) -> list[Any]:
    """A figure of the original, the edited and three retrained models; None leaves a model out."""
    runs = [("before", "runs/base"), ("after", "runs/no-male")]
    runs += [("reference", f"runs/retrain-{seed}") for seed in range(3)]
    return [
        {
            "id": id_,
            "label": label,
            "model": role,
            "run": run,
            "value": value,
            "ci": [value - half, value + half],
        }
        | {"n": 5000, "unit": unit, "layer": None, "transform": None}
        | more
        for (role, run), value in zip(runs, values, strict=True)
        if value is not None
    ]


def further(content: dict[str, Any]) -> dict[str, Any]:
    """The same audit under the standard budget: durability, canaries, membership, groups, distances."""
    metrics, comparisons = content["metrics"], content["comparisons"]
    kept = [
        label for label in content["models"]["after"]["labels"] if label not in content["request"]["labels"]
    ]
    for label in content["request"]["labels"]:
        for at, transform in enumerate(TRANSFORMS):
            for id_, ((_, plain, retrained), unit, layer, _) in ATTACKS.items():
                if id_ == "others.adv.gbt":
                    continue
                gain = 0.007 * at - 0.01
                values = [None, plain + gain, *(retrained + gain / 2 + 0.006 * seed for seed in (-1, 0, 1))]
                where = {"layer": layer, "transform": transform}
                metrics += rows_of(f"recover.{id_}", label, values, unit, **where)
                bounds = {"diff": gain, "lower": gain - 0.012, "upper": gain + 0.012, "margin": 0.05}
                comparisons.append(
                    {"id": f"recover.{id_}", "label": label, "verdict": "PASS"} | bounds | where
                )
        for at, n in enumerate((16, 64, 256)):
            values = [
                0.86 + 0.03 * at,
                0.71 + 0.02 * at,
                *(0.7 + 0.02 * at + 0.004 * seed for seed in range(3)),
            ]
            metrics += rows_of(f"few.auc@{n}", label, values, "auc", layer="penultimate")
            if n >= 64:
                bounds = {"diff": 0.006, "lower": -0.009, "upper": 0.021, "margin": 0.03}
                where = {"layer": "penultimate", "transform": None}
                comparisons.append({"id": f"few.auc@{n}", "label": label, "verdict": "PASS"} | bounds | where)
        for attack in ("own", "probe"):
            metrics += rows_of(
                f"canary.{attack}.acc", label, [0.571, 0.504, None, None, None], "fraction", 0.03
            )
            metrics += rows_of(f"canary.{attack}.eps_lb", label, [0.16, 0.0, None, None, None], "nats", 0.0)
        metrics += rows_of(
            "mia.label.auc", label, [0.538, 0.507, 0.503, 0.505, 0.501], "auc", layer="penultimate"
        )
        bounds = {"diff": 0.004, "lower": -0.011, "upper": 0.019, "margin": 0.05}
        where = {"layer": "penultimate", "transform": None}
        comparisons.append({"id": "mia.label.auc", "label": label, "verdict": "PASS"} | bounds | where)
        for kind in ("outputs", "features"):
            for end, unit in (("", "fraction"), (".adv", "adv"), (".bits", "bits")):
                metrics += rows_of(f"paper_aia.{kind}{end}", label, [0.8, 0.7, 0.7, 0.69, 0.71], unit)
        for at, other in enumerate(kept):
            for figure, unit in (("tpr_gap", "fraction"), ("fpr_gap", "fraction"), ("auc_gap", "auc")):
                gap = 0.04 * (at % 7) - 0.12
                values = [gap, gap * 1.2 + 0.01, gap, gap + 0.01, gap - 0.01]
                metrics += rows_of(f"fair.{figure}@{label}", other, values, unit, 0.03)
    metrics += rows_of("mia.sample.auc", None, [0.534, 0.521, 0.522, 0.52, 0.524], "auc")
    metrics += rows_of("mia.sample.tpr@1%", None, [0.016, 0.012, 0.012, 0.013, 0.011], "fraction", 0.004)
    metrics += rows_of("dist.js", None, [0.03, 0.021, 0.02, 0.021, 0.019], "bits")
    metrics += rows_of("dist.ks.loss@test", None, [0.03, 0.021, 0.02, 0.021, 0.019], "fraction")
    few = {str(n): {"excess": 0.006, "upper": 0.021} for n in (16, 64, 256)}
    names = dict.fromkeys(content["request"]["labels"])
    notes = {"draws": 50, "few_shot": dict.fromkeys(names, few)} | by_margins("few.auc@64", {"auc": 0.03})
    durable = {
        "verdict": "PASS",
        "sentence": "No change brings it back.",
        "budget": "standard",
        "notes": notes,
    }
    coins = {"canaries": dict.fromkeys(names, 2000)}
    planted = {
        "verdict": "PASS",
        "sentence": "0.504 of 1,000 are told right.",
        "budget": "standard",
        "notes": coins,
    }
    content["claims"] |= {"C4": durable, "C6": planted}
    found = by_margins("probe.adv.mlp", {"adv": 0.1, "bits": 0.075})
    content["claims"]["C2"]["notes"] = {**content["claims"]["C2"].get("notes", {}), **found}
    content["claims"]["C5"].setdefault("notes", {})["groups"] = hit(metrics, list(names), kept)
    return content | {"headline": "UNLEARNED", "not_tested": ["layers before the last features"]}


def by_margins(figure: str, published: dict[str, float]) -> dict[str, Any]:
    """Notes of the margins that would pass, of this model and of three retrained ones."""
    smallest = {
        kind: {"margin": 0.7 * margin, "published": margin, "figure": figure, "label": "Male"}
        for kind, margin in published.items()
    }
    multiples = (
        {"after": (0.0, 0.7), "head_zero": (1.81, 2.6)} if len(published) > 1 else {"after": (0.3, 1.2)}
    )
    curve = [{"model": name, "fails_below": a, "passes_above": b} for name, (a, b) in multiples.items()]
    curve += [{"model": "reference", "fails_below": 0.0, "passes_above": b} for b in (0.9, 1.3, 0.55)]
    return {"smallest_margin": smallest, "margin_curve": curve}


def hit(metrics: list[dict[str, Any]], gone: list[str], kept: list[str]) -> dict[str, Any]:
    """Figures within the groups of all labels, and the note of C5 on them; one group is left out."""

    def table(labels: list[str], figures: Sequence[str], label: str | None, unit: str) -> dict[str, Any]:
        rows = []
        for at, (name, present) in enumerate((name, present) for name in labels for present in (True, False)):
            side = "with" if present else "without"
            values = [0.85, 0.7, 0.69, 0.7, 0.71]
            for figure in figures:
                where = {"layer": "penultimate" if figure == "leak" else None}
                metrics.extend(rows_of(f"group.{figure}.{side}@{name}", label, values, unit, 0.03, **where))
            excess = 0.06 - 0.004 * at
            bounds = {"excess": excess, "lower": excess - 0.05, "upper": excess + 0.05, "images": 900 - at}
            rows.append({"label": name, "present": present} | bounds)
        counts = {"tested": len(rows), "left_out": 1, "beyond": sum(row["lower"] > 0 for row in rows)}
        return counts | {"at_most": 0.11, "retrained_apart": 0.02, "groups": rows}

    metrics += rows_of("group.moved", None, [None, 0.02, 0.01, 0.012, 0.011], "fraction")
    for label in gone:
        metrics += rows_of("group.moved.share", label, [None, 0.6, 0.5, 0.55, 0.45], "fraction")
    moved = {"excess": 0.009, "lower": 0.005, "upper": 0.013, "retrained": [0.01, 0.012]}
    share = {"excess": 0.1, "lower": 0.0, "upper": 0.2, "retrained": [0.45, 0.55]}
    return {
        "least": 100,
        "leaks": {label: table(kept, ["leak"], label, "adv") for label in gone},
        "losses": {"against": "retrained"} | table([*kept, *gone], ["auc", "missed", "called"], None, "auc"),
        "moved": {"total": moved, "shares": dict.fromkeys(gone, share)},
        "persons": {
            "share": 0.08, "lower": 0.06, "upper": 0.1, "retrained": [0.04, 0.05, 0.06], "amount": 0.21,
            "persons": 1200, "left_out": 30,
        },
    }  # fmt: skip


def deeper(content: dict[str, Any]) -> dict[str, Any]:
    """The same audit under the full budget: whole models trained again, stages before the last features."""
    metrics, comparisons = content["metrics"], content["comparisons"]
    for label in content["request"]["labels"]:
        for at, n in enumerate((256, 1024)):
            low = 0.76 + 0.07 * at
            metrics += rows_of(f"tune.auc@{n}", label, [0.9, low + 0.05, low, low + 0.01, low - 0.01], "auc")
            bounds = {"diff": 0.05, "lower": 0.036, "upper": 0.064, "margin": 0.03}
            comparisons.append({"id": f"tune.auc@{n}", "label": label, "verdict": "FAIL"} | bounds | PLAIN)
        for at in (1, 2, 3):
            for figure, unit in (("probe.adv.lin", "adv"), ("probe.bits.lin", "bits")):
                values = [0.3 + 0.1 * at, 0.28 + 0.1 * at, *(0.2 + 0.1 * at + 0.004 * k for k in range(3))]
                metrics += rows_of(figure, label, values, unit, layer=f"stage{at}")
                bounds = {"diff": 0.076, "lower": 0.061, "upper": 0.091 + 0.01 * at, "margin": 0.1}
                where = {"layer": f"stage{at}", "transform": None}
                verdict = "INCONCLUSIVE" if at == 3 else "PASS"
                comparisons.append({"id": figure, "label": label, "verdict": verdict} | bounds | where)
    steps = {"steps": {"before": 10, "after": 70, "references": [None, 90, None]}}
    noted = {label: {"1024": steps} for label in content["request"]["labels"]}
    content["claims"]["C4"] |= {"verdict": "FAIL", "budget": "full"}
    content["claims"]["C4"]["notes"] |= {"whole_model": noted, "tune_draws": 3}
    return content | {"headline": "RETRAIN-EQUIVALENT, NOT DURABLE"}


PLAIN = {"layer": None, "transform": None}


@pytest.fixture
def make_full() -> Callable[..., dict[str, Any]]:
    """Builds the parsed audit.json of a made-up run under the full budget, three references."""
    return lambda *args, **more: deeper(further(audit(*args, **more)))


@pytest.fixture
def make_gallery() -> Callable[..., Gallery]:
    """Builds the example images of forgotten labels: six grey squares a strip, all of one name."""
    uri = address(np.full((64, 64, 3), 120, np.uint8))

    def make(labels: Sequence[str] = ("Male",), name: str = "a/b.jpg", *, drawn: bool = False) -> Gallery:
        pictures = [Picture(name, at < 3, 0.98 - at / 10, 0.51, uri) for at in range(6)]
        examples = [Example(label, dict.fromkeys(STRIPS, pictures), 5000, 0.42) for label in labels]
        return Gallery("folder:/photos", drawn, examples)

    return make


@pytest.fixture
def make_standard() -> Callable[..., dict[str, Any]]:
    """Builds the parsed audit.json of a made-up run under the standard budget, three references."""
    return lambda *args, **more: further(audit(*args, **more))


@pytest.fixture
def make_audit() -> Callable[..., dict[str, Any]]:
    """Builds the parsed audit.json of a made-up run: labels, forgotten labels, number of references."""
    return audit
