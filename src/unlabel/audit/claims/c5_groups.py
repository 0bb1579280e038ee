"""What C5's notes say of groups and persons: the worst group, with bounds that hold for all groups at once.

It decides nothing. C5 is about everyone together; a small group that is harmed can hide in a mean.
"""

from collections.abc import Sequence
from dataclasses import replace

from unlabel.audit.attacks.groups import LEAST
from unlabel.audit.attacks.hits import Hits
from unlabel.audit.attacks.persons import Persons
from unlabel.audit.attacks.within_groups import Found, Part
from unlabel.audit.document.results import Claim
from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.contrast import contrast
from unlabel.statistics.estimate import Estimate
from unlabel.statistics.simultaneous import Band, bands

Row = dict[str, object]


def with_groups(claim: Claim, hits: Hits | None, options: AuditOptions) -> Claim:
    """C5 with a note on groups; as it is where none was measured."""
    if hits is None:
        return claim
    return replace(claim, notes={**claim.notes, "groups": notes_of(hits, options)})


def notes_of(hits: Hits, options: AuditOptions) -> Row:
    """The note: leaks by forgotten label, use of the retained labels, moved errors, persons."""
    before, after, *others = hits.served
    against = others or [before]
    retained = hits.groups - 2 * len(hits.leaks)
    return {
        "least": LEAST,
        "leaks": {
            label: table(models[1:], retained, options)
            for label, models in hits.leaks.items()
            if len(models) > 2
        },
        "losses": {
            "against": "retrained" if others else "original",
            **table([lost.areas for lost in (after, *against)], hits.groups, options, sign=-1),
        },
        "moved": moved_table(hits, options),
        "persons": persons_table(hits.persons),
    }


def table(models: Sequence[Found], groups: int, options: AuditOptions, sign: int = 1) -> Row:
    """How much worse the model is than the others, by group, with bounds that hold in all groups at once.

    Args:
        models: The unlearned model and those that it is compared with: a figure by group.
        groups: All groups, those left out as well.
        options: Level.
        sign: 1 where a larger figure is worse, -1 where a smaller one is.

    Returns:
        ``tested`` and ``left_out``: how many groups. ``groups``: a row each, the worst first. ``at_most``:
        the highest upper bound. ``beyond``: how many groups have a lower bound above 0. With two or more
        others, ``retrained_apart``: the most by which one of them is worse than the rest in a group.
    """
    unlearned = models[0]
    names = list(unlearned)
    if not names:
        return {"tested": 0, "left_out": groups, "beyond": 0, "groups": []}
    turned = [[model[part].affine(sign, 0.0) for part in names] for model in models]
    excesses = bands(turned[0], turned[1:], options.level)
    rows = sorted(zip(names, excesses, strict=True), key=lambda item: -item[1].value)
    apart = [
        max(one[at].value - sum(other[at].value for other in rest) / len(rest) for at in range(len(names)))
        for index, one in enumerate(turned[1:])
        if (rest := [*turned[1:][:index], *turned[1:][index + 1 :]])
    ]
    return {
        "tested": len(names),
        "left_out": groups - len(names),
        "at_most": max(band.upper for band in excesses),
        "beyond": sum(band.lower > 0 for band in excesses),
        "groups": [_row(part, band) for part, band in rows],
        **({"retrained_apart": max(apart)} if apart else {}),
    }


def _row(part: Part, band: Band) -> Row:
    group: Row = {"label": part.label, "present": part.present}
    return {**group, "excess": band.value, "lower": band.lower, "upper": band.upper, "images": band.n}


def moved_table(hits: Hits, options: AuditOptions) -> Row | None:
    """Moved errors against retrained models: the total, and by forgotten label the share on its images."""
    _, after, *others = [model.moved for model in hits.served]
    measured = [other for other in others if other is not None]
    if after is None or not measured:
        return None
    shares = {
        label: _against(item, [other.shares[label] for other in measured], options)
        for label, item in after.shares.items()
        if all(label in other.shares for other in measured)
    }
    return {"total": _against(after.total, [other.total for other in measured], options), "shares": shares}


def _against(own: Estimate, others: Sequence[Estimate], options: AuditOptions) -> Row:
    excess = contrast(own, others)
    bounds = {"lower": excess.lower(options.level), "upper": excess.upper(options.level)}
    values = [item.value for item in others]
    return {"excess": excess.value, **bounds, "retrained": [min(values), max(values)]}


def persons_table(found: Persons | None) -> Row | None:
    """The share of persons whose loss rose, without saying who they are."""
    if found is None:
        return None
    return {
        "share": found.share.value,
        "lower": found.share.lower(),
        "upper": found.share.upper(),
        "retrained": [item.value for item in found.retrained],
        "amount": found.amount,
        "persons": found.persons,
        "left_out": found.left_out,
    }
