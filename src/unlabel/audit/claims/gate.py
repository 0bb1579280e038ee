"""``unlabel audit --require``: whether the required claims pass, as an exit code."""

from collections.abc import Iterable, Mapping

from unlabel.audit.document.results import Audit
from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest

UNLEARNED = ("C1", "C2", "C4", "C5")
"""What the headline UNLEARNED, without "(provisional)", says. It also needs that C6 does not FAIL.

An audit whose headline is RETRAIN-EQUIVALENT, REMOVING THE OUTPUT WAS ENOUGH meets it too, if the four PASS:
the model is judged, not how it was made.
"""

NAMES: Mapping[str, tuple[str, ...]] = {
    "C1": ("C1",),
    "C2": ("C2",),
    "C3": ("C3",),
    "C4": ("C4",),
    "C5": ("C5",),
    "C6": ("C6",),
    "disabled": ("C1",),
    "retrain-equivalent": ("C2",),
    "erased": ("C3",),
    "durable": ("C4",),
    "useful": ("C5",),
    "unmemorised": ("C6",),
    "unlearned": UNLEARNED,
}
"""Names for --require, and the claims that must then pass."""

PROVISIONAL = ("PASS (provisional)", "PASS (predicted)")
MET, FAILED, OPEN = 0, 3, 4
"""Exit codes."""


def required(names: Iterable[str]) -> tuple[str, ...]:
    """The claims that must pass, in order, each once.

    Raises:
        OptionError: A name is none of `NAMES`, or there is none.

    Example:
        >>> required(["unlearned", "c3", "useful"])
        ('C1', 'C2', 'C3', 'C4', 'C5')
    """
    claims_of = {name.casefold(): claims for name, claims in NAMES.items()}
    wanted: set[str] = set()
    for name in names:
        if name.casefold() not in claims_of:
            raise OptionError(
                f"--require names '{name}', which is no claim.{suggest(name, NAMES)} Expected some of"
                f" {', '.join(NAMES)}, comma-separated"
            )
        wanted |= {*claims_of[name.casefold()]}
    if not wanted:
        raise OptionError(f"--require names no claim; expected some of {', '.join(NAMES)}, comma-separated")
    return tuple(sorted(wanted))


def judge(audit: Audit, claims: Iterable[str]) -> tuple[int, str]:
    """The exit code, and the reason in a line.

    A provisional PASS does not decide: with fewer than three references, or if the original's start is
    unknown, the same model may fail against other references. Neither does one against a predicted level. A
    provisional FAIL fails.

    Args:
        audit: The audit.
        claims: Of `required`.
    """
    if not audit.valid:
        return FAILED, "not met: the audit is invalid"
    states = {name: _state(audit, name) for name in claims}
    if {*UNLEARNED} <= {*states} and _state(audit, "C6") == "FAIL":
        states["C6"] = "FAIL"
    for code, group in ((FAILED, ("FAIL",)), (OPEN, ("INCONCLUSIVE", "NOT_EVALUATED", *PROVISIONAL))):
        if named := [f"{name} {state}" for name, state in states.items() if state in group]:
            return code, f"{'not met' if code == FAILED else 'not decided'}: {', '.join(named)}"
    return MET, f"met: {', '.join(f'{name} PASS' for name in states)}"


def _state(audit: Audit, name: str) -> str:
    claim = audit.claims[name]
    return f"PASS{claim.mark}" if claim.verdict == "PASS" and claim.provisional else claim.verdict
