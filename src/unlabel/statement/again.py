"""Measuring a signed run again: the quick audit by its own record, figure by figure against what is recorded.

A figure agrees when it lies within the 95 % interval that the audit gave it, and that interval is no wider
than the one found now. On the machine and data of the audit it is the same number; elsewhere it may differ by
rounding. On other images two samples are compared: a figure agrees if the difference is within both errors
together, with 95 % for all figures at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from unlabel.audit.document.stages import is_stage
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.progress import SILENT, Log
from unlabel.runs.lineage import at_hand
from unlabel.statement.predicate import AUDIT
from unlabel.statement.verdicts import better_signed, contradictions, judged_again

Json = Mapping[str, Any]
BESIDE = ("attackers", "attacked", "curve")
"""Options of attackers that are reported beside C4, which the quick budget does not judge."""
WIDER = 1.2
"""A recorded interval above this many times as wide as the one found now says more than was measured."""
GROWN = 10
"""An audit with sizes above this many times the published ones is not repeated: it might not end."""


@dataclass(frozen=True)
class Figure:
    """One figure of the audit and the same figure measured again.

    Args:
        id, label, model, layer, transform: Which figure; see `unlabel.audit.document.results.Metric`.
        run: The model, as the audit named it.
        recorded: Its value in the audit.
        interval: Its 95 % interval there; None where it had none, then only the same number agrees.
        again: Its value now; None where it was not measured.
        interval_now: Its 95 % interval now, if it has one.
        many: On other images, how many figures are compared, which together may err once in twenty; 0 on the
            images of the audit.
    """

    id: str
    label: str | None
    model: str
    layer: str | None
    transform: str | None
    run: str
    recorded: float
    interval: tuple[float, float] | None
    again: float | None
    interval_now: tuple[float, float] | None = None
    many: int = 0

    @property
    def name(self) -> str:
        """Its id, the stage before the last features, and the transform that it was read after."""
        name = f"{self.id} at {self.layer}" if is_stage(self.layer) else self.id
        return name if self.transform is None else f"{name} after {self.transform}"

    @property
    def agrees(self) -> bool:
        """Whether the new value bears the recorded one out; numbers have six digits in an audit."""
        if self.again is None:
            return False
        low, high = self.interval or (self.recorded, self.recorded)
        room = 1e-5 * max(abs(low), abs(high), 1e-3)
        if self.many:
            return self.interval is None or abs(self.again - self.recorded) <= self._error() + room
        if self.interval_now and high - low > WIDER * (self.interval_now[1] - self.interval_now[0]) + room:
            return False
        return low - room <= self.again <= high + room

    def _error(self) -> float:
        """By how much the values on two samples of images may differ."""
        ends = [each for each in (self.interval, self.interval_now) if each is not None]
        halves = [(high - low) / 2 for low, high in ends]
        return float(norm.isf(0.025 / self.many) / norm.isf(0.025) * np.hypot.reduce(halves or [0.0]))


def measure_again(
    run: Path,
    audit: Json,
    data: str,
    *,
    before: Path | None = None,
    references: Sequence[Path] = (),
    same_version: bool = True,
    log: Log = SILENT,
) -> dict[str, Any]:
    """Repeats the quick audit of a run; compares every figure that both have, and the verdicts.

    Args:
        run: The run; nothing is written into it.
        audit: Its parsed, checked audit.json.
        data: Data source to read.
        before: The original, where it is neither where it was nor beside the run.
        references: The retrained models, likewise.
        same_version: Whether this version of the program made the audit.
        log: Receives progress.

    Returns:
        ``source``; ``same_images``, whether the data is that of the audit; ``compared``, how many figures;
        ``outside``, those that lie outside their interval; ``not_repeated``, ids that the quick budget does
        not measure; ``headline`` of the repeated audit; ``lacking``, ids of figures of the unlearned model
        that are not recorded; ``contradicted``, parts that the repeated audit does not bear out, with why;
        ``not_judged``, claims that it does not judge.

    Raises:
        ModelError: A model of the audit is not at hand with the weights that were audited.
        UnlabelError: As an audit raises.
    """
    from unlabel.audit.run.folders import audit_run
    from unlabel.core import engine

    options = _options(audit["options"], run)
    models = audit["models"]
    old = models["before"]
    original = at_hand(old["run"], old["sha256"], run, [before] if before else [], "--before")
    retrained = [
        at_hand(model["run"], model["sha256"], run, references, "--reference")
        for model in models["references"]
    ]
    where = engine.start(seed=options.seed, log=log)
    result = audit_run(run, original, retrained, where, data=data, options=options, write=False).to_json()
    names = {
        str(found): model["run"]
        for model, found in zip(
            [models["before"], models["after"], *models["references"]],
            [original, run, *retrained],
            strict=True,
        )
    }
    return {"source": data, **_set_against(audit, result, names, same_version=same_version)}


def _set_against(
    audit: Json, result: Json, names: Mapping[str, str], *, same_version: bool
) -> dict[str, Any]:
    """A recorded audit against the repeated one; `names` leads from a model's folder to its recorded one."""
    figures = list(_pair(audit["metrics"], result["metrics"], names))
    repeated = {(row["id"], row.get("layer"), row.get("transform")) for row in result["metrics"]}
    compared = [figure for figure in figures if (figure.id, figure.layer, figure.transform) in repeated]
    same_images = result["data"].get("digest") == audit["data"].get("digest") is not None
    if not same_images:
        compared = [replace(figure, many=len(compared)) for figure in compared]
    exact = same_version and same_images and all(figure.again == figure.recorded for figure in compared)
    judged = judged_again(audit, larger=audit["options"]["budget"] != result["options"]["budget"])
    return {
        "same_images": same_images,
        "compared": len(compared),
        "outside": [figure for figure in compared if not figure.agrees],
        "not_repeated": sorted({figure.name for figure in figures} - {figure.name for figure in compared}),
        "headline": result["headline"],
        "lacking": _lacking(audit["metrics"], result["metrics"], every_label=same_images),
        "contradicted": [
            {"where": where, "what": what}
            for where, what in (
                *contradictions(audit, result, exact=exact),
                *(better_signed(audit, result) if same_images else ()),
            )
        ],
        "not_judged": [
            name
            for name, claim in audit["claims"].items()
            if name not in judged and claim["verdict"] != "NOT_EVALUATED"
        ],
    }


def _lacking(recorded: Sequence[Json], again: Sequence[Json], *, every_label: bool) -> list[str]:
    """Figures of the unlearned model that only the repeated audit has; of each label on the same images."""

    def keys(rows: Sequence[Json]) -> dict[tuple[str, str | None, str | None], None]:
        return {
            (row["id"], row.get("layer"), row["label"] if every_label else None): None
            for row in rows
            if row["model"] == "after" and row.get("transform") is None
        }

    known = keys(recorded)
    return [
        id_ if label is None else f"{id_} of {label}"
        for id_, layer, label in keys(again)
        if (id_, layer, label) not in known
    ]


def _options(recorded: Json, run: Path) -> Any:
    """The audit's options, for the quick budget; sizes that would not end are refused."""
    from unlabel.audit.inputs.options import AuditOptions

    usual = AuditOptions().to_json()
    names = {item.name for item in fields(AuditOptions)}
    given: dict[str, Any] = {
        name: value for name, value in recorded.items() if name in names and name not in BESIDE
    }
    given["budget"] = "quick"
    given.setdefault("cross_fit", False)  # of an audit from before there was a choice
    path = run / AUDIT
    for name, value in list(given.items()):
        default = usual[name]
        if isinstance(default, list | tuple):
            sizes = isinstance(value, list) and len(value) <= GROWN and all(type(n) is int for n in value)
            if not sizes or not all(0 < n <= GROWN * max(default) for n in value):
                raise ModelError(f"{path} has the option {name} with sizes that no audit has")
            given[name] = tuple(value)
            continue
        same = isinstance(value, int | float if isinstance(default, float) else type(default))
        if not same or isinstance(value, bool) != isinstance(default, bool):
            raise ModelError(
                f"{path} has the option {name} of another kind; expected what `unlabel audit` wrote"
            )
        if isinstance(default, int) and name not in ("seed", "rare") and value > GROWN * default:
            raise ModelError(f"{path} has the option {name} = {value}; expected at most {GROWN * default}")
        if isinstance(value, dict) and not all(type(item) in (int, float) for item in value.values()):
            raise ModelError(f"{path} has the option {name} with something else than numbers in it")
    try:
        return AuditOptions(**given)
    except (OptionError, TypeError, ValueError) as error:
        raise ModelError(f"{path} has options that no audit has: {error}") from error


def _pair(recorded: Sequence[Json], again: Sequence[Json], names: Mapping[str, str]) -> Iterator[Figure]:
    """Every recorded figure with the one measured again."""

    def key(row: Json, run: str) -> tuple[Any, ...]:
        return row["id"], row["label"], row["model"], row.get("layer"), row.get("transform"), run

    now = {key(row, names.get(row["run"], row["run"])): row for row in again}
    for row in recorded:
        figure_key = key(row, row["run"])
        where = dict(zip(("id", "label", "model", "layer", "transform", "run"), figure_key, strict=True))
        found = now.get(figure_key, {"value": None, "ci": None})
        yield Figure(
            **where,
            recorded=row["value"],
            interval=_ends(row),
            again=found["value"],
            interval_now=_ends(found),
        )


def _ends(row: Json) -> tuple[float, float] | None:
    return (row["ci"][0], row["ci"][1]) if row["ci"] else None
