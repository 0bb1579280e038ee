"""What an audit says, as plain data: the same objects become JSON, terminal lines and the page."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT_EVALUATED"]
Role = Literal["before", "after", "reference"]
Against = Literal["retrained", "itself"]

SCHEMA = "unlabel.audit/1"


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
    it, with the references' seed noise included where there are two or more. With a ``transform``, both are
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


@dataclass(frozen=True)
class Audit:
    """A whole audit. ``to_json`` is the content of ``audit.json``."""

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

    def to_json(self) -> dict[str, Any]:
        """JSON-plain dictionary, numbers with six significant digits and no NaN or infinity."""
        return plain(asdict(self))


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
