"""What was found of one model and one label: rows, sentences, lines for a terminal, and a gate."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from unlabel.audit.attacks.one_label import PIXELS, SHUFFLED, Key
from unlabel.audit.document.results import plain
from unlabel.audit.figures import FLOOR, OWN, figure
from unlabel.core.errors import OptionError
from unlabel.models.outputs import PENULTIMATE
from unlabel.statistics.estimate import Estimate

SCHEMA = "unlabel.probe/1"
PERCEIVED = "Labels are what annotators saw in a picture, not facts; their mistakes blur every figure."
MET, FAILED, OPEN = 0, 3, 4
"""Exit codes of the gate, as of `audit.claims.gate`."""

Role: TypeAlias = Literal["model", "untrained", "reference", "pixels", "truth"]


@dataclass(frozen=True)
class Told:
    """What one attack finds: a row of the table.

    Args:
        id: The figure, as an audit has it.
        model: Name of the model; "pixels" or "true labels" where there is none.
        role: Its part.
        layer: Where it is read; None at the outputs.
        unit: ``auc`` (0.5 is a coin, 1 is perfect) or ``bits``.
        value: The number.
        ci: Its 95 % interval.
        n: Test images behind it.
    """

    id: str
    model: str
    role: Role
    layer: str | None
    unit: Literal["auc", "bits"]
    value: float
    ci: tuple[float, float]
    n: int

    @property
    def key(self) -> Key:
        """Names the attack, whichever model it is made on."""
        return self.id, self.layer


@dataclass(frozen=True)
class Probed:
    """What one model tells of a label.

    Args:
        model: As the user named it.
        label: The label.
        has_output: Whether the model has an output for it.
        rows: Every figure of the model, of an untrained one, of references, pixels and true labels.
        valid: Whether the controls came out as they must, and the splits share nothing.
        invalid_because: What speaks against it.
        controls: AUC on shuffled annotations, which must be a coin, and on a label that is planted.
        counts: Images of each split, and those with the label.
        notes: What else is to be known, in sentences.
        source: Where the images are from; empty where the outputs come from files.
        seed: Of everything random.
        not_tested: What was not attacked, in sentences.
    """

    model: str
    label: str
    has_output: bool
    rows: tuple[Told, ...]
    valid: bool
    invalid_because: tuple[str, ...]
    controls: Mapping[str, Any]
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    source: str
    seed: int
    not_tested: tuple[str, ...] = ()
    schema: str = SCHEMA

    def of(self, role: Role, unit: str = "auc") -> list[Told]:
        """The rows of models with this part."""
        return [row for row in self.rows if row.role == role and row.unit == unit]

    @property
    def largest(self) -> Told:
        """The attack on the model with the largest AUC."""
        return max(self.of("model"), key=lambda row: row.value)

    def sentences(self) -> list[str]:
        """What was found, in words."""
        return [*_found(self), *self._compared(), PERCEIVED]

    def _compared(self) -> Iterator[str]:
        best = self.largest
        if like := [row for row in self.of("untrained") if row.key == best.key]:
            yield f"An untrained network of the same kind: {like[0].value:.2f}."
        yield from (f"The pixels alone, without a model: {row.value:.2f}." for row in self.of("pixels"))
        yield from (
            f"The true other labels, without a model: {row.value:.2f}; outputs that answer them tell as much."
            for row in self.of("truth")
        )
        for row in self.of("reference"):
            if row.key == best.key:
                yield f"The same attack on {row.model}: {row.value:.2f} ({row.ci[0]:.2f} to {row.ci[1]:.2f})."

    def to_json(self) -> dict[str, Any]:
        """JSON-plain dictionary, numbers with six significant digits."""
        return plain(asdict(self) | {"largest": asdict(self.largest), "sentences": self.sentences()})


def place_of(key: Key, *, has_output: bool) -> str:
    """Where an attack reads, as the subject of a sentence."""
    id_, layer = key
    if id_ == OWN.id:
        return "Its own output"
    if layer is None:
        return "Its other outputs" if has_output else "Its outputs"
    return "The features" if layer == PENULTIMATE else f"The features at {layer}"


def _found(probed: Probed) -> Iterator[str]:
    """The strongest attack, and the strongest on the features where that is another."""
    best = probed.largest
    inner = [row for row in probed.of("model") if row.layer == PENULTIMATE]
    rows = [best, *([max(inner, key=lambda row: row.value)] if inner and best.layer is None else [])]
    for row in rows:
        site = place_of(row.key, has_output=probed.has_output)
        verb = "tells" if site.endswith("output") else "tell"
        yield (
            f"{site} {verb} {probed.label} with AUC {row.value:.2f} ({row.ci[0]:.2f} to {row.ci[1]:.2f}),"
            f" n = {row.n:,}; 0.5 is a coin."
        )
    if not probed.has_output:
        yield f"The model has no output that is named {probed.label}."


def row_of(key: Key, item: Estimate, model: str, role: Role) -> Told:
    id_, layer = key
    if id_ != PIXELS and figure(id_).unit == "bits":
        return Told(id_, model, role, layer, "bits", item.value, item.interval(0.95, 0.0, 1.0), item.n)
    area = item.affine(0.5, 0.5)
    return Told(id_, model, role, layer, "auc", area.value, area.interval(0.95, 0.0, 1.0), area.n)


def lines(probed: Probed) -> list[str]:
    """The table of attacks, and what was found in words."""
    compared = [row.model for row in probed.of("untrained")[:1]]
    compared += list(dict.fromkeys(row.model for row in probed.of("reference")))
    by_key = {(row.model, *row.key): row for row in probed.rows}
    heading = f"{probed.label:30s} {'AUC':>6s} {'95 % interval':>16s} {'n':>7s}"
    out = [probed.model + (f", on {probed.source}" if probed.source else ""), ""]
    out.append(heading + "".join(f" {_short(name):>12s}" for name in compared))
    for row in (row for row in probed.rows if row.role == "model"):
        others = (by_key.get((name, *row.key)) for name in compared)
        out.append(
            _line(row, alone=not probed.has_output)
            + "".join(f" {f'{item.value:.3f}' if item else '-':>12s}" for item in others)
        )
    out += [_line(row) for row in (*probed.of("pixels"), *probed.of("truth"))]
    shuffled = [item["value"] for name, item in probed.controls.items() if name.startswith(SHUFFLED)]
    out.append(f"{'control: shuffled labels':30s} {max(shuffled):6.3f}  must be a coin, 0.5")
    planted = next(item for name, item in probed.controls.items() if not name.startswith(SHUFFLED))
    out.append(f"{'control: a planted label':30s} {planted['value']:6.3f}  must be found")
    out += ["", *(f"INVALID: {reason}" for reason in probed.invalid_because), *probed.sentences()]
    return [*out, *probed.not_tested, *probed.notes]


def _short(name: str) -> str:
    """The end of a long name, for a column."""
    return name if len(name) <= 12 else f"..{name[-10:]}"


def _line(row: Told, *, alone: bool = False) -> str:
    """A row of the table; ``alone``: the model has no own output for the label, so no output is another."""
    words = {PIXELS: "the pixels alone, linear", FLOOR.id: "the true other labels"}.get(row.id)
    if words is None:
        entry = figure(row.id)
        early = row.layer not in (None, PENULTIMATE)
        words = f"{row.layer}, linear probe" if early else entry.terminal
        words = words.replace("the other outputs", "its outputs") if alone else words
        if row.unit == "bits":
            words = words.removesuffix(", bits") + ", bits"
    return f"{words:30s} {row.value:6.3f} {f'{row.ci[0]:.3f} to {row.ci[1]:.3f}':>16s} {row.n:7,d}"


def gate(probed: Probed, most: float) -> tuple[int, str]:
    """The exit code of ``--fail-above``, and the reason in a line.

    3 if the 95 % interval of some attack's AUC lies above the limit as a whole, or a control failed; 0 if the
    interval of every attack ends at or below the limit; 4 in between: more images would decide.

    Args:
        probed: What was found. Attacks on other models, and bits, do not count.
        most: The limit, an AUC from 0.5 to 1.

    Raises:
        OptionError: The limit is out of range.
    """
    check_limit(most)
    if not probed.valid:
        return FAILED, "not met: a control failed, so the figures are invalid"
    rows = probed.of("model")
    above = max(rows, key=lambda row: row.ci[0])
    widest = max(rows, key=lambda row: row.ci[1])
    if above.ci[0] > most:
        return FAILED, f"not met: {_named(above)}, which is above {most:g}"
    if widest.ci[1] > most:
        return OPEN, f"not decided: {_named(widest)}, which reaches above {most:g}"
    left = f". {' '.join(probed.not_tested)}" if probed.not_tested else ""
    return MET, f"met: {_named(widest)}, and no attack reaches above {most:g}{left.removesuffix('.')}"


def check_limit(most: float) -> None:
    """Refuses a limit that is no AUC.

    Raises:
        OptionError: It is out of range.
    """
    if not 0.5 <= most <= 1:
        raise OptionError(f"--fail-above is {most:g}; expected an AUC from 0.5, a coin, to 1")


def _named(row: Told) -> str:
    name = f"{row.layer}, linear" if row.layer not in (None, PENULTIMATE) else figure(row.id).name
    return f"{name}: AUC {row.value:.3f} ({row.ci[0]:.3f} to {row.ci[1]:.3f})"
