"""What every figure of an audit is, in one sentence each: views of the registry."""

from unlabel.audit import figures
from unlabel.audit.document.typed import Document
from unlabel.audit.figures import find


def definition(id_: str) -> str:
    """What a figure is; empty for one that no version of this page knows.

    >>> definition("few.auc@64").split(";")[1]
    ' mean of several draws.'
    >>> definition("own.sadv@train"), definition("zzz")
    ('The same on images that the model was trained on.', '')
    """
    figure = find(id_)
    return "" if figure is None else figure.definition


def defined(audit: Document) -> list[tuple[str, str]]:
    """Every kind of figure in an audit with its definition, in the registry's order, unknown ones last."""
    by_id = {id_: find(id_) for id_ in dict.fromkeys(m.id for m in audit.metrics)}
    kinds = {found.kind if found else id_: definition(id_) for id_, found in by_id.items()}
    order = [item.id for item in figures.FIGURES]
    return [
        (f"{kind}…" if kind in order and kind[-1] in "@." else kind, kinds[kind])
        for kind in sorted(kinds, key=lambda kind: order.index(kind) if kind in order else len(order))
    ]
