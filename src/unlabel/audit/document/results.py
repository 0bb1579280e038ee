"""What an audit says, as plain data: the same objects become JSON, terminal lines and the page."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from unlabel.audit.document.stages import is_stage
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.files import make_parent, write_bytes

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT_EVALUATED"]
Role = Literal["before", "after", "reference"]
Against = Literal["retrained", "itself"]

SCHEMA = "unlabel.audit/1"
BINDING_TEST = "binding_test"
"""Where a claim's notes say of which label, at which layer and after which transform the test was made that
decided, as far as its figure does not say that."""
ROLES = {"before": "original", "after": "unlearned", "reference": "retrained"}


@dataclass(frozen=True)
class Metric:
    """One measured number of one model.

    Args:
        id: What was measured, such as ``probe.adv.lin``; `unlabel.audit.figures` has an entry of each.
        label: The label it concerns, or None for a figure over all retained labels.
        model: Which role the model has in this audit.
        run: The run folder or name of that model.
        value: The number, in `unit`.
        ci: 95 % interval, or None where the number is exact or a description.
        n: Images behind it.
        unit: ``adv`` (-1..1 or 0..1), ``bits``, ``auc``, ``fraction`` ...
        layer: Where in the model it was read: ``penultimate``, ``stage1`` ...; or None for outputs.
        transform: What was done to the model's weights before, or None where nothing was.
    """

    id: str
    label: str | None
    model: Role
    run: str
    value: float
    ci: tuple[float, float] | None
    n: int
    unit: str
    layer: str | None = None
    transform: str | None = None


@dataclass(frozen=True)
class Comparison:
    """One attack on one label, set against the retrained references.

    ``diff`` = value after - mean of the references; ``lower`` and ``upper`` are one-sided 95 % bounds of
    it, with the references' seed noise included where there are two or more. Without a label, it is the mean
    over labels, whose ``upper`` counts labels below 0 as 0. With a ``transform``, both are
    read after that transform of the weights; or, ``against`` itself, ``diff`` is what the transform brought
    back: value after it less value before. Of these two the one nearer to a PASS stands here, with bounds of
    97.5 % where it was chosen.
    """

    id: str
    label: str | None
    diff: float
    lower: float
    upper: float
    margin: float
    verdict: Verdict
    layer: str | None = None
    transform: str | None = None
    against: Against = "retrained"


@dataclass(frozen=True)
class Claim:
    """One of the audit's claims and how it came out.

    Args:
        verdict: PASS, FAIL, INCONCLUSIVE or NOT_EVALUATED.
        sentence: The reason, for a person.
        budget: The audit budget under which it was decided.
        provisional: True with fewer than three references, or where the start of the original is unknown.
        binding: Id of the comparison or metric that decided it, if one did.
        per_label: Verdict of each forgotten label.
        notes: Further plain facts, such as ``finding`` or ``attainable``.
    """

    verdict: Verdict
    sentence: str
    budget: str = "quick"
    provisional: bool = False
    binding: str | None = None
    per_label: Mapping[str, Verdict] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        """What follows the verdict: that it rests on a predicted level, or that it is provisional."""
        if self.notes.get("predicted") and self.verdict != "NOT_EVALUATED":
            return " (predicted)"
        return " (provisional)" if self.provisional and self.verdict != "NOT_EVALUATED" else ""


@dataclass(frozen=True, repr=False)
class Audit:
    """A whole audit. ``to_json`` is the content of ``audit.json``.

    Args:
        headline: The outcome in capitals, such as ``DISABLED ONLY``.
        valid: Whether the audit's own controls came out as they must; if not, no verdict counts.
        invalid_because: What went wrong with them.
        request: ``labels`` that were to be forgotten, ``forgotten_earlier`` and ``retained``.
        claims: By name, ``C1`` to ``C6``.
        metrics: Every figure of every model.
        comparisons: Every figure that was set against retrained models.
        controls: How the audit's own controls came out.
        data: The source and its counts.
        options: The options of the audit.
        models: The audited models, by role.
        not_tested: Sentences that say what was not tested.
        limitations: Sentences that say what limits the audit.
        seconds: Of attacks and verdicts.
        earlier: Of each audit against other models that this one, or one before it, replaced in the run:
            ``date``, ``before``, ``references``, ``budget``, ``headline`` and the file's ``sha256``.
    """

    headline: str
    valid: bool
    invalid_because: tuple[str, ...]
    request: Mapping[str, Any]
    claims: Mapping[str, Claim]
    metrics: tuple[Metric, ...]
    comparisons: tuple[Comparison, ...]
    controls: Mapping[str, Any]
    data: Mapping[str, Any]
    options: Mapping[str, Any]
    models: Mapping[str, Any]
    not_tested: tuple[str, ...]
    limitations: tuple[str, ...]
    seconds: Mapping[str, float]
    schema: str = SCHEMA
    earlier: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-plain dictionary, numbers with six significant digits and no NaN or infinity."""
        content = asdict(self)
        if not self.earlier:
            del content["earlier"]
        return plain(content)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Audit":
        """An audit from the parsed content of ``audit.json``.

        Raises:
            ModelError: It is no audit of this version.
        """
        try:
            fields = dict(content)
            for name in ("invalid_because", "not_tested", "limitations"):
                fields[name] = tuple(fields[name])
            fields["earlier"] = tuple(fields.get("earlier", ()))
            fields["claims"] = {name: Claim(**claim) for name, claim in fields["claims"].items()}
            fields["comparisons"] = tuple(Comparison(**row) for row in fields["comparisons"])
            fields["metrics"] = tuple(
                Metric(**{**row, "ci": None if row["ci"] is None else (row["ci"][0], row["ci"][1])})
                for row in fields["metrics"]
            )
            if fields["schema"] != SCHEMA:
                raise ValueError(f"schema {fields['schema']!r}")
            return cls(**fields)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            fault = f"{type(error).__name__}: {str(error)[:200]}"
            raise ModelError(
                f"this is no audit of this version ({fault}); expected audit.json, parsed"
            ) from error

    def to_frame(self) -> Any:
        """One row a figure: a pandas DataFrame where pandas is installed, else a list of dictionaries.

        Columns: ``id``, ``label``, ``model``, ``run``, ``value``, ``low`` and ``high`` of its 95 % interval,
        ``n``, ``unit``, ``layer``, ``transform``; None where there is none.
        """
        rows = []
        for metric in self.metrics:
            row = asdict(metric)
            low, high = row.pop("ci") or (None, None)
            rows.append({**row, "low": low, "high": high})
        return rows if find_spec("pandas") is None else import_module("pandas").DataFrame(rows)

    def report(self, path: str | Path, *, force: bool = False) -> Path:
        """Writes the audit as one HTML page that opens offline, whole or not at all.

        Args:
            path: The file; its folder is made.
            force: Replace a file that is there.

        Raises:
            OptionError: The file is there already, or is a folder.
        """
        from unlabel.report.page import render

        path = Path(path)
        if path.is_dir():
            raise OptionError(
                f"{path} is a folder; name the HTML file to write, such as {path / 'report.html'}"
            )
        if path.exists() and not force:
            raise OptionError(f"{path} is there already; name another file, or replace it with force=True")
        make_parent(path)
        write_bytes(path, render(self.to_json()).encode())
        return path

    def __repr__(self) -> str:
        return "\n".join([self._title(), *(f"  {line}" for line in self._faults()), *self._lines()])

    def _repr_html_(self) -> str:
        """A small table for a notebook."""
        head = "".join(f"<th>{name}</th>" for name in ("claim", "verdict", "decided by", "figures"))
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self._decided()
        )
        faults = "".join(f"<p>{escape(line)}</p>" for line in self._faults())
        return f"<p><b>{escape(self._title())}</b></p>{faults}<table><tr>{head}</tr>{body}</table>"

    def _title(self) -> str:
        return f"Audit of {', '.join(self.request['labels'])}: {self.headline}"

    def _faults(self) -> list[str]:
        """Why it is invalid, at most two reasons."""
        others = len(self.invalid_because) - 2
        return [f"invalid: {reason}" for reason in self.invalid_because[:2]] + (
            [f"and {others} more in invalid_because"] if others > 0 else []
        )

    def _lines(self) -> Iterator[str]:
        """One line a claim that was tested."""
        for name, verdict, figure, values in self._decided():
            yield f"  {name} {verdict}" + (f"  {figure}: {values}" if values else "")
        open_ = [name for name, claim in self.claims.items() if claim.verdict == "NOT_EVALUATED"]
        if open_:
            yield f"  not tested: {', '.join(open_)}"

    def _deciding(self, claim: Claim) -> list[Metric]:
        """Rows of the figure that decided, of its own label and layer; none if read after a transform."""
        where, never_there = claim.notes.get(BINDING_TEST) or {}, claim.notes.get("nothing_to_forget", ())
        rows = [row for row in self.metrics if row.id == claim.binding and row.transform is None]
        rows = [row for row in rows if _there(row, where)]
        if "label" not in where:
            rows = [row for row in rows if row.label not in never_there]
        if layer := where.get("layer"):
            return [row for row in rows if row.layer == layer]
        return [row for row in rows if not is_stage(row.layer)] or rows

    def _nearest(self, claim: Claim) -> Comparison | None:
        """The test that decided, after a transform; where that is not noted, the one nearest to a FAIL."""
        where = claim.notes.get(BINDING_TEST) or {}
        rows = [row for row in self.comparisons if row.id == claim.binding and _there(row, where)]
        return max(rows, key=lambda row: (row.upper - row.margin) / row.margin, default=None)

    def _decided(self) -> Iterator[tuple[str, str, str, str]]:
        """Each claim that was tested: name, verdict, the figure that decided, its value in each model."""
        for name, claim in self.claims.items():
            if claim.verdict == "NOT_EVALUATED":
                continue
            figure, rows = claim.binding or "", self._deciding(claim)
            values = {
                role: fmean(row.value for row in rows if row.model == role)
                for role in ("before", "after", "reference")
                if any(row.model == role for row in rows)
            }
            if label := (claim.notes.get(BINDING_TEST) or {}).get("label"):
                figure = f"{figure} of {label}"
            words = ", ".join(f"{ROLES[role]} {value:.3f}" for role, value in values.items())
            if not rows and (row := self._nearest(claim)):
                after = f"after {row.transform}, " if row.transform else ""
                words = f"{after}{row.diff:+.3f} against {row.against}, limit {row.margin:g}"
            yield name, claim.verdict + claim.mark, figure, words


def _there(row: Metric | Comparison, where: Mapping[str, str]) -> bool:
    """Whether a row is of the label and the transform that are noted, if some are."""
    noted = where.get("label", row.label), where.get("transform", row.transform)
    return (row.label, row.transform) == noted


def plain(value: Any) -> Any:
    """Recursively turns tuples into lists and rounds floats; refuses numbers that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    number = float(value)
    assert number - number == 0.0, f"a report cannot hold {number}"
    return float(f"{number:.6g}")
