"""What the pages read from a study's records: the models in a table's order, and their figures by name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlabel.compare.cell_figures import value_of
from unlabel.reproduce.numbers import Entry
from unlabel.reproduce.settings import ORIGINAL, RETRAIN
from unlabel.reproduce.study import Made

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Models:
    """One row of a table: a setting's finished cells, the original alone, or the references.

    Args:
        name: As the row is called.
        paper: The paper's name of it; None where it has none.
        records: One a seed.
        failed: Cells that came to no end, with why.
        label: The forgotten label.
    """

    name: str
    paper: str | None
    records: tuple[Record, ...]
    failed: tuple[str, ...]
    label: str

    def figure(self, name: str) -> list[float | None]:
        """A figure of the audit, one a seed, see `compare.cell_figures.value_of`."""
        label = None if name.startswith("util.") else self.label
        return [value_of(record, name, label) for record in self.records]

    def accuracy(self, split: str = "E") -> list[float | None]:
        """Share of right answers over the retained labels, on training, probe (P) or test images (E)."""
        return [record["also"]["accuracy"][split]["value"] for record in self.records]

    def constant(self, name: str | None = None) -> float:
        """Accuracy on E of one answer for everybody: of one retained label, or the mean over all."""
        shares = self.records[0]["also"]["accuracy"]["E"]["constant"]
        return shares[name] if name else sum(shares.values()) / len(shares)

    def of_label(self, *path: str) -> list[float | None]:
        """A measure of the forgotten label, by its place in what a `Reader` found."""
        return [_inside(record["also"]["labels"][self.label], path) for record in self.records]

    def cost(self, name: str) -> list[float | None]:
        """Steps, images processed or images used."""
        return [record["cost"][name] for record in self.records]

    def mean(self, values: Sequence[float | None]) -> float:
        """Mean over the seeds."""
        numbers = [value for value in values if value is not None]
        return sum(numbers) / len(numbers)

    def verdicts(self, claim: str) -> Entry:
        """How many cells got which verdict: ``3 PASS``, ``2 PASS, 1 FAIL``."""
        verdicts = [record["claims"][claim]["verdict"] for record in self.records if "claims" in record]
        order = ("PASS", "INCONCLUSIVE", "FAIL", "NOT_EVALUATED")
        counted = [f"{verdicts.count(word)} {word}" for word in order if word in verdicts]
        return ", ".join(counted) or "-"

    def passes(self, claim: str) -> int:
        """Cells that passed a claim."""
        return sum(record["claims"][claim]["verdict"] == "PASS" for record in self.records)


def _inside(table: Any, path: Sequence[str]) -> float | None:
    for name in path:
        if table is None:
            return None
        table = table[name]
    return table


def original(made: Made) -> Models:
    """The model to forget from."""
    return Models(ORIGINAL, None, (made.original,), (), made.study.label)


def retrained(made: Made) -> Models:
    """The references."""
    return Models(RETRAIN, RETRAIN, made.retrained, (), made.study.label)


def forgotten(made: Made) -> list[Models]:
    """Every setting, in the study's order."""
    models = []
    for setting in made.study.settings:
        cells = made.cells[setting.name]
        done = tuple(cell.record for cell in cells if cell.done)
        failed = tuple(cell.record["error"]["message"] for cell in cells if not cell.done)
        models.append(Models(setting.name, setting.paper, done, failed, made.study.label))
    return models


def every(made: Made) -> Iterator[Models]:
    """The original, Retrain, then every setting with at least one finished cell."""
    yield original(made)
    yield retrained(made)
    yield from (models for models in forgotten(made) if models.records)


def by_name(made: Sequence[Made]) -> list[tuple[str, list[Models | None]]]:
    """The rows of several data sets side by side: a name, and its models in each; None where all failed."""
    tables = [{models.name: models for models in every(item)} for item in made]
    names = [ORIGINAL, RETRAIN, *(setting.name for item in made for setting in item.study.settings)]
    return [
        (name, [table.get(name) for table in tables])
        for name in dict.fromkeys(names)
        if any(name in table for table in tables)
    ]


def failures(made: Made) -> list[str]:
    """A sentence for every setting of which a cell failed."""
    return [
        f"{models.name} failed in {len(models.failed)} of {len(models.failed) + len(models.records)} seeds:"
        f" {models.failed[0]}."
        for models in forgotten(made)
        if models.failed
    ]


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them.

    >>> listed(["a", "b", "c"]), listed(["a"]), listed([])
    ('a, b and c', 'a', 'none')
    """
    if not names:
        return "none"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
