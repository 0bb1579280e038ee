"""The default: the method that fits whom the model is given to, judged by itself before it returns."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, isnan
from typing import Any, cast

from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.errors import LabelMismatch, MethodError, OptionError
from unlabel.core.progress import warn
from unlabel.core.request import Request
from unlabel.core.wording import listing, suggest
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.adversary import Adversary
from unlabel.forget.answers import Answers
from unlabel.forget.given import refuse_unannotated
from unlabel.forget.leace import say_bill
from unlabel.forget.methods.deep_probes import LOOK, DeepProbes, deep_probes
from unlabel.forget.methods.erasure import erasure
from unlabel.forget.methods.leace import erase_at_head
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.phases import joined, phase
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.forget.residual import Floats, Residuals, has_twin
from unlabel.forget.retained import NOTABLE
from unlabel.forget.self_check import (
    SITES,
    Against,
    Look,
    Rows,
    SelfCheck,
    Shares,
    at_the_end,
    check,
    label_told,
    little,
    rows_of,
    set_aside,
    shares_of,
    slight,
    unchecked,
)
from unlabel.models.sites import Site, find_sites

STRONGER = (0.5, 1.0, 2.0)  # strengths of erasure, tried until the check is passed
MILDER = 0.05  # strength of an erasure after a training if the first of those costs too much
FURTHER = 2  # trainings of half the length that may follow, while a site still tells too much
PASSES = 5.25  # over the images, at most: on few images more would learn them by heart
SHARE = 0.3  # of the original's training, at most, if that is more
ANNOTATED = 0.35  # of each target on so few images, which may then be passed over more often by as much
GENTLER = (
    0.25  # of the rate: where the first training did harm, and further on, where few steps are left to repair
)
HARDER = 2.0  # times the pressure, from the original again, where no steps are left
WORTH = 0.005  # of mean AUC: what the harder training may cost the retained labels


def auto(*, against: Against = "weights", images_trained: int = 0) -> Unlearner:
    """Chooses the method by whom the model is given to, checks the result, and goes on where it falls short.

    ============  ===========================  ===========  =======================  ================
    against       who must not find the label  method       cost                     claims aimed at
    ============  ===========================  ===========  =======================  ================
    ``outputs``   who sees all outputs         leace-head   one pass                 C1, C5
    ``features``  who sees the features, too   erasure      one pass                 C1, C2, C5
    ``weights``   who has the model            deep-probes  600 steps or more        C1, C2, C4, C5
    ============  ===========================  ===========  =======================  ================

    Before it returns, it reads the sites that the protection is about, on training images that the method
    did not use (`forget.self_check`). If they still tell too much, it goes on:

    * with erasure after leace-head, or with a stronger erasure;
    * with up to two more trainings of half the length, at a quarter of the rate. If the first training harmed
      the retained labels, it starts again at a quarter of the rate;
    * what the trainings leave at the last features is erased there in closed form, on top, mildly if the
      usual erasure costs too much;
    * if nothing did harm and the targets are annotations alone, with one more training from the original, at
      twice the pressure. It counts only if every site then tells little enough;
    * if every training did harm, or the last features still tell too much, with an erasure of the original's
      last features, in closed form. A training that misses its aim then counts only if it costs at most .02
      more mean AUC.

    All trainings on annotations together pass at most 5.25 times over the images, or three tenths as often as
    the original's training if that is more. The last two count only if they cost the retained labels at most
    .005 more mean AUC on the images held back.

    On few images those passes are fewer than 600 steps. Then each target is an annotation only by .35, and
    for the rest what the original answers (``deep-probes --annotated .35``). The steps are as many more, 600
    at most.

    Of classes that exclude each other, a site may tell more before it counts as too much: a network that
    learns what the others are learns what belongs to none of them.

    If a retained label is the label's copy or opposite, only the output is removed. If no site of the
    original tells more than .05 of the label's residual, hardly anything is there to be pushed out; of a rare
    label it is less (`self_check.allowance`). A training on annotations would then only make the model better
    at the retained labels, which give the label away. So it trains on what the original answers of them alone
    (``deep-probes --annotated 0``), as many steps as with .35. If the result then does harm or misses its
    aim, `auto` only removes the output. So it does if probes of the label itself find more than before, on
    average. This is read if the training keeps to the answers, if the aim is missed, or if earlier requests
    were made.

    If the last features or the outputs miss their aims, and the images held back do not show that they tell
    less than before, the trainings may have done nothing but change the model. Then, too, only the output is
    removed.

    The best attempt is returned, and what was seen of it stands in the run as ``self_check``. It is no audit.

    Args:
        against: Whom the model is given to: outputs, features or weights.
        images_trained: Images in the original's training, each as often as it was used, >= 0; 0 if unknown.
            The command reads it in the run.
    """
    in_range("images_trained", images_trained, 0)
    if against not in SITES:
        raise OptionError(
            f"--against is {against!r}; expected outputs, features or weights.{suggest(str(against), SITES)}"
        )
    return Auto(against, images_trained)


@dataclass(frozen=True)
class Attempt:
    """What one attempt made, and what the check says of it; None where no check was possible.

    Args:
        work: The model, and how it was made.
        checked: The check.
        costly: Whether it is no choice, as it gained too little for what the retained labels paid.
        rows: What the check read at the last features and the outputs.
    """

    work: Work
    checked: SelfCheck | None
    costly: bool = False
    rows: Rows = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether nothing is left to be tried: no site misses the aim, or nothing can be measured."""
        return self.checked is None or not (self.checked.missed or self.spent)

    @property
    def unfinished(self) -> bool:
        """Whether sites still tell too much, and the retained labels have not paid too much."""
        return not (self.done or self.spent)

    @property
    def leaks_at_the_end(self) -> bool:
        """Whether the last features or the outputs are among the sites that tell too much."""
        findings = self.checked.findings if self.checked else ()
        return any(item.site in SITES["features"] and item.missed for item in findings)

    @property
    def hardly_helped(self) -> bool:
        """Whether the last features or the outputs miss their aims, and may tell as much as before."""
        return self.leaks_at_the_end and self.checked is not None and not self.checked.less_at_the_end

    @property
    def spent(self) -> bool:
        """Whether the retained labels paid too much."""
        return self.checked is not None and self.checked.spent

    @property
    def rank(self) -> tuple[bool, float]:
        """Less is better: without harm first, then by what all sites above their aims tell beyond them."""
        assert self.checked is not None, "attempts without a check are not compared"
        loss = self.checked.retained.loss
        if (self.spent or self.costly) and loss is not None:
            return True, loss.value
        return False, sum(item.after - item.aim for item in self.checked.findings if item.missed)

    def costs(self, other: "Attempt") -> float:
        """How much lower the mean AUC of the retained labels is than another attempt's; 0 if unknown."""
        losses = [item.checked.retained.loss for item in (self, other) if item.checked]
        mine, theirs = losses if len(losses) == 2 else (None, None)
        return mine.value - theirs.value if mine and theirs else 0.0


@dataclass(frozen=True)
class Case:
    """What every attempt shares.

    Args:
        original: The model, which stays.
        request: What is asked.
        used: Images that may be trained on.
        told: The residuals that are pushed out.
        logits: The model's, of the retained labels and of all images; None of exclusive classes.
        sites: Where the network is read.
        run: Where.
        look: What the check reads; None if it cannot be made.
        rows: What the check read of the original, at the last features and the outputs.
        before: What its probes tell of the original.
        images_trained: In the original's training.
        method: The training.
        answers: What the retained labels are trained on; None: their annotations alone.
    """

    original: nn.Module
    request: Request
    used: Dataset
    told: Residuals
    logits: Floats | None
    sites: list[Site]
    run: Run
    look: Look | None
    rows: Rows
    before: Shares
    images_trained: int
    method: DeepProbes
    answers: Answers | None = None

    @property
    def checked_on(self) -> int:
        """Images that a check reads: those of its fit and those held back."""
        return len(self.look.fitted) + len(self.look.held) if self.look else 0

    @property
    def hardly_tells(self) -> bool:
        """Whether so little of a label's residual is told that a training on annotations only teaches."""
        return self.look is not None and little(self.before, self.look.allowed)

    @property
    def slight(self) -> bool:
        """Whether the original is sure to tell next to nothing of the labels' residuals."""
        return self.look is not None and slight(self.before, self.look.allowed)

    @property
    def annotated(self) -> float:
        """How much of a target is its annotation: all, a part on few images, or none if it would only teach.

        Classes that exclude each other are always trained on their annotations.
        """
        if self.used.exclusive:
            return 1.0
        if self.hardly_tells:
            return 0.0
        return ANNOTATED if self.steps_annotated < self.method.steps else 1.0

    @property
    def steps_annotated(self) -> int:
        """Optimiser steps of a model on annotations alone, at most."""
        images = max(PASSES * len(self.used), SHARE * self.images_trained)
        return ceil(images / self.run.batch_size)

    @property
    def most_steps(self) -> int:
        """Optimiser steps of a model, at most."""
        if self.answers is None:
            return self.steps_annotated
        return min(ceil(self.steps_annotated / ANNOTATED), self.method.steps)

    def judged(self, work: Work, floors: Mapping[str, Tensor] | None = None) -> Attempt:
        """An attempt with its check."""
        if self.look is None:
            return Attempt(work, None)
        rows = rows_of(work.model.eval(), self.look, self.run)
        after = work.model, shares_of(rows, self.look, self.run)
        original = self.original, self.before
        self_check = check(original, after, self.look, self.request, self.run, floors or {})
        read = self.checked_on + 2 * self_check.retained.images
        work = replace(work, images_scored=work.images_scored + read)
        return Attempt(work, self_check, rows=_last(rows, self.look))

    def unchanged(self) -> Attempt:
        """The original as it is, with its check, for which only its retained labels are still to be read.

        Whoever called `auto` removes its output, or keeps it if that is asked for.
        """
        work = Work(copy.deepcopy(self.original), method="head-removal")
        if self.look is None:
            return Attempt(work, None)
        original = self.original, self.before
        self_check = check(original, original, self.look, self.request, self.run, {})
        work = replace(work, images_scored=self_check.retained.images)
        return Attempt(work, self_check, rows=self.rows)


@dataclass(frozen=True)
class Auto:
    """The unlearner of `auto`, with its options."""

    against: Against
    images_trained: int

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        case = self._case(model, request, data, run)
        enough = case.slight
        if self.against == "weights" and not any(site.kind in ("stage", "grid") for site in case.sites):
            warn(
                run.log,
                "no layer before the last features of this network can be read: neither the training nor the"
                " check sees one, so they may still tell the label",
            )
        if enough:
            run.log.say(
                f"the original tells next to nothing of {listing(request.masked)} beyond what its other"
                " labels give away: removing the output (head-removal) may be enough"
            )
        copies = [
            name
            for name, column in zip(request.masked, request.masked_columns, strict=True)
            if has_twin(data, column, request.retained_columns)
        ]
        nothing = len(copies) == len(request.masked)
        if copies:
            run.log.say(
                f"a retained label is a copy of {listing(copies)} or its opposite, so nothing else is to be"
                f" forgotten{'' if nothing else ' of it'}: only the output is removed"
            )
        read = LOOK + case.method.read_first(data) + case.checked_on
        if self.against == "weights" and case.annotated < 1 and not nothing:
            case = _answered(case, data)
        attempts = [case.unchanged()] if nothing else _ATTEMPTS[self.against](case)
        best = _best(attempts)
        label_record: dict[str, Any] = {}
        doubtful = enough or case.answers is not None or not best.done or bool(request.forgotten)
        if self.against == "weights" and not nothing and best.hardly_helped:
            why = f"the last features and the outputs may tell as much of {listing(request.masked)} as before"
            best, doubtful = _removed_after(case, best, why), False
            attempts = [*attempts, best]
        if case.look and doubtful and not nothing:
            chosen, label_record = _no_worse(case, case.look, data, best, done=best.done or not enough)
            attempts, best = attempts if chosen is best else [*attempts, chosen], chosen
        if best.work.method == "leace-head":  # the costs of attempts that are dropped say nothing
            say_bill(best.work.settings, run)
        works = [attempt.work for attempt in attempts]
        record = unchecked(self.against) if best.checked is None else best.checked.to_json()
        return replace(
            best.work,
            history=joined([work.history for work in works]),
            images_scored=sum(work.images_scored for work in works) + read,
            seconds=_together([work.seconds for work in works]),
            self_check={
                **record,
                "attempts": len(attempts),
                "removal_may_suffice": enough,
                **label_record,
            },
        )

    def _case(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Case:
        """What every attempt shares, if the retained labels are trained on their annotations."""
        used, held = set_aside(data, request, run.seed)
        sites = find_sites(model, len(request.labels), batch_of(data, range(LOOK), run.device).image)
        method = cast(DeepProbes, deep_probes())
        logits = method.logits(model, request, data, run)
        told = Residuals.of(logits, request, data, run, method.spare)
        look = Look.of(self.against, sites, told, (used, held), request, run.seed) if held else None
        rows = rows_of(model.eval(), look, run) if look else {}
        before, last = (shares_of(rows, look, run), _last(rows, look)) if look else ({}, {})
        images = self.images_trained
        return Case(model, request, used, told, logits, sites, run, look, last, before, images, method)


def _answered(case: Case, data: Dataset) -> Case:
    """The same, if the retained labels are trained on what the original answers; the check stays as it is."""
    others = "what the original answers of the other labels"
    if case.hardly_tells:
        why = f"little of {listing(case.request.masked)} is to be pushed out: the training keeps to {others}"
        case.run.log.say(f"{why}, as annotations would only teach the model further")
    else:
        part = f"{1 - case.annotated:.0%} of each target is {others}"
        case.run.log.say(
            f"{len(case.used):,} images are few: {part}, as annotations alone would be learnt by heart"
        )
    method = replace(case.method, annotated=case.annotated)
    told = Residuals.of(case.logits, case.request, data, case.run, method.spare)
    answers = method.answers(case.original, case.logits, case.request, data, case.run)
    return replace(case, told=told, method=method, answers=answers)


def _no_worse(
    case: Case, look: Look, data: Dataset, best: Attempt, *, done: bool
) -> tuple[Attempt, dict[str, Any]]:
    """The best attempt, or the original less its output if that tells less of the label; and the figures.

    Args:
        case, look, data: What was asked, and what it is read on.
        best: The best attempt.
        done: Whether it may stand if probes find no more of the label than before.
    """
    labels = Residuals.of_annotations(case.request, data, case.run)
    before, after = (label_told(rows, look, labels, case.run) for rows in (case.rows, best.rows))
    told = {"before": before, "after": after}
    record = {"label_told": {name: None if isnan(value) else value for name, value in told.items()}}
    if done and not after > before:  # nor if too few images show the label
        return best, record
    if best.spent:
        why = "the retained labels would pay too much"
    elif after > before:
        then, now = (f"{max(share, 0.0):.2f}" for share in (before, after))  # below 0, a probe misleads
        label = listing(case.request.masked)
        why = f"probes would find no less of {label}"
        if now != then:
            why = f"probes would find more of {label}, {now} and not {then}"
    else:
        why = "some sites would tell too much"
    return _removed_after(case, best, why), record


def _removed_after(case: Case, best: Attempt, why: str) -> Attempt:
    """The original less its output, in place of the best attempt; and says why."""
    case.run.log.say(f"only the output is removed: after {best.work.method} {why}")
    return case.unchanged()


def _last(rows: Rows, look: Look) -> Rows:
    """Those of the last features and the outputs, which `label_told` reads again."""
    return {site.name: rows[site.name] for site in at_the_end(look.sites)}


def _best(attempts: Sequence[Attempt]) -> Attempt:
    """Of the least rank; an attempt without a check is the only one."""
    return attempts[0] if len(attempts) == 1 else min(attempts, key=lambda attempt: attempt.rank)


def _kept(attempts: Sequence[Attempt], original: nn.Module) -> list[Attempt]:
    """The same attempts; only those that may still be chosen keep a network of their own.

    These are the last, and each to which no other is preferable by its rank and by what the labels pay.
    """
    if len(attempts) < 2:
        return list(attempts)
    return [
        attempt
        if attempt is attempts[-1] or not any(_better(other, attempt) for other in attempts)
        else replace(attempt, work=replace(attempt.work, model=original))
        for attempt in attempts
    ]


def _better(one: Attempt, other: Attempt) -> bool:
    """Whether an attempt is of less rank than another, and its retained labels pay no more."""
    return one.rank < other.rank and one.costs(other) <= 0


def _together(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Seconds of each stage over all attempts."""
    stages = dict.fromkeys(stage for part in parts for stage in part)
    return {stage: sum(part.get(stage, 0.0) for part in parts) for stage in stages}


def _outputs(case: Case) -> list[Attempt]:
    """The head alone; if its outputs still tell the label or the others pay, the layer before it."""
    work = erase_at_head(case.original, case.request, case.used, case.run, told=False)
    first = case.judged(replace(work, method="leace-head"))
    if first.done:
        return [first]
    try:
        refuse_unannotated(case.request, case.used)  # the driver lets the head alone pass without annotations
        return [first, *_features(case)]
    except (LabelMismatch, MethodError) as error:
        case.run.log.say(f"erasure was not possible: {error}")
        return [first]


def _features(case: Case, floors: Mapping[str, Tensor] | None = None) -> list[Attempt]:
    """Erasures of the original's last features, stronger until the aim is reached."""
    attempts: list[Attempt] = []
    for strength in STRONGER:
        work = erasure(strength=strength)(case.original, case.request, case.used, case.run)
        settings = {**work.settings, "strength": strength}
        attempts.append(case.judged(replace(work, settings=settings, method="erasure"), floors))
        attempts = _kept(attempts, case.original)
        if attempts[-1].done:
            break
    return attempts


def _weights(case: Case) -> list[Attempt]:
    """One training, and what follows if sites still tell too much, or the retained labels paid too much."""
    method = replace(case.method, steps=min(case.method.steps, case.most_steps))
    started = time.perf_counter()
    adversary, read = method.adversary(case.original, case.sites, case.told, case.used, case.run)
    seconds = time.perf_counter() - started
    now, again = copy.deepcopy(adversary), copy.deepcopy(adversary)
    attempts, chosen, now = _first(case, method, now, again)
    if not attempts:
        case.run.log.say("no training was possible: erasing at the last features, in closed form")
        return _features(case, adversary.floors)
    attempts = _further(case, chosen, now, attempts)
    if _best(attempts).unfinished:
        attempts = _erased(case, adversary, attempts)
    harmless = chosen == method and not any(attempt.spent for attempt in attempts)
    if _best(attempts).unfinished and harmless and case.answers is None:
        attempts = _harder(case, method, adversary, attempts)
    if not case.slight and (_best(attempts).spent or _best(attempts).leaks_at_the_end):
        attempts = _from_original(case, adversary, attempts)
    first = attempts[0].work
    scored, stages = first.images_scored + read, {"prepare": seconds, **first.seconds}
    return [replace(attempts[0], work=replace(first, images_scored=scored, seconds=stages)), *attempts[1:]]


def _first(
    case: Case, method: DeepProbes, now: Adversary, again: Adversary
) -> tuple[list[Attempt], DeepProbes, Adversary]:
    """A training from the original, and a gentler one if it did harm; with what to go on with.

    No attempt if both diverged.
    """
    attempts: list[Attempt] = []
    try:
        attempts.append(_trained(case, method, Work(case.original), now, case.run))
    except MethodError as error:  # it diverged, or its outputs are no numbers
        case.run.log.say(f"{error}; trying a quarter of the rate")
    if attempts and not attempts[0].spent:
        return attempts, method, now
    if attempts:
        case.run.log.say(
            "the training cost the retained labels too much: training again from the original, at a quarter"
            " of the rate"
        )
    method = replace(method, lr=method.lr * GENTLER)
    try:
        attempts.append(_trained(case, method, Work(case.original), again, case.run))
    except MethodError as error:
        case.run.log.say(f"{error}; {'the attempt before it stands' if attempts else 'it failed as well'}")
    return _kept(attempts, case.original), method, again


def _further(case: Case, method: DeepProbes, now: Adversary, attempts: list[Attempt]) -> list[Attempt]:
    """Further trainings at a gentler rate, from where the last one ended, as long as steps are left."""
    half, rate = max(method.steps // 2, 1), method.lr * GENTLER
    for number in range(FURTHER):
        last = attempts[-1]
        left = case.most_steps - last.work.settings["steps"]
        if last.done or last.spent or 2 * left < half:
            break
        method = replace(method, steps=min(half, left), lr=rate)
        try:
            more = _trained(case, method, last.work, now, phase(case.run, f"further/{number}"))
        except MethodError as error:
            case.run.log.say(f"{error}; the attempts before it stand")
            break
        attempts = _kept([*attempts, more], case.original)
    return attempts


def _from_original(case: Case, adversary: Adversary, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Erasures of the original's last features, beside trainings that cost too much or left too much there.

    A training that misses its aim is no choice if the retained labels pay notably more for it.
    """
    spent = _best(attempts).spent
    why = "each training cost the retained labels too much" if spent else "the last features tell too much"
    case.run.log.say(f"{why}: erasing at the last features of the original, in closed form")
    try:
        erased = _features(case, adversary.floors)
    except MethodError as error:
        case.run.log.say(f"erasure was not possible: {error}")
        return list(attempts)
    cheap = _best(erased)
    judged = [
        replace(item, costly=item.costly or not (item.done or item.costs(cheap) <= NOTABLE))
        for item in attempts
    ]
    return _kept([*judged, *erased], case.original)


def _erased(case: Case, adversary: Adversary, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Erasures of the last features, in closed form, from the best attempt; next to no price may be paid."""
    best, tried = _best(attempts), list(attempts)
    if case.look is None or not best.leaks_at_the_end:
        return tried
    case.run.log.say("the last features still tell too much: erasing that in closed form, after the training")
    try:
        first = _erasure(case, adversary, best, STRONGER[0])
        tried = _kept([*tried, first], case.original)
        if first.costly:
            return _kept([*tried, _erasure(case, adversary, best, MILDER)], case.original)
        for strength in STRONGER[1:]:
            if not tried[-1].leaks_at_the_end:
                break
            tried = _kept([*tried, _erasure(case, adversary, best, strength)], case.original)
    except MethodError as error:
        case.run.log.say(f"erasure was not possible: {error}")
    return tried


def _erasure(case: Case, adversary: Adversary, best: Attempt, strength: float) -> Attempt:
    """An attempt, and after it an erasure of a strength."""
    assert case.look is not None, "only what was read is erased"
    work = erasure(strength=strength)(best.work.model, case.request, case.look.fitted, case.run)
    settings = {**best.work.settings, "erasure_strength": strength}
    erased = case.judged(replace(work, settings=settings, method=best.work.method), adversary.floors)
    return replace(erased, costly=erased.costs(best) > WORTH)


def _harder(
    case: Case, method: DeepProbes, adversary: Adversary, attempts: Sequence[Attempt]
) -> list[Attempt]:
    """A training from the original at more pressure; it counts if it succeeds at next to no price."""
    case.run.log.say("sites still tell too much: training again from the original, at twice the pressure")
    best = _best(attempts)
    pressure = method.pressure * HARDER
    method, adversary = replace(method, pressure=pressure), replace(adversary, pressure=pressure)
    try:
        harder = _trained(case, method, Work(case.original), adversary, phase(case.run, "harder"))
    except MethodError as error:
        case.run.log.say(f"{error}; the attempts before it stand")
        return list(attempts)
    costly = not harder.done or harder.costs(best) > WORTH
    return _kept([*attempts, replace(harder, costly=costly)], case.original)


def _trained(case: Case, method: DeepProbes, start: Work, adversary: Adversary, run: Run) -> Attempt:
    """One training from a model, which stays as it is; the adversary goes on."""
    model, started = copy.deepcopy(start.model), time.perf_counter()
    history = method.train(model, adversary, case.told, case.request, case.used, run, case.answers)
    seconds = {"train": time.perf_counter() - started}
    settings = _trainings(start.settings, method)
    work = Work(model, history, method.answered(run), seconds, settings=settings, method="deep-probes")
    return case.judged(work, adversary.floors)


def _trainings(before: Mapping[str, Any], method: DeepProbes) -> dict[str, Any]:
    """The settings of a model after one more training: the first rate, all steps, and each training's own."""
    last = {"steps": method.steps, "lr": method.lr, "pressure": method.pressure}
    trainings = [*before.get("trainings", []), last]
    steps = sum(training["steps"] for training in trainings)
    return {**vars(method), "lr": trainings[0]["lr"], "steps": steps, "trainings": trainings}


_ATTEMPTS: Mapping[Against, Callable[[Case], list[Attempt]]] = {
    "outputs": _outputs,
    "features": _features,
    "weights": _weights,
}
