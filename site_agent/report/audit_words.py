"""What each test of the audit found, in plain words and with one figure for a plot.

A test that is not known here, or whose figures are others than expected, is listed plainly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pixcell_share.bundles.audit import AuditTest
from pixcell_share.figures.intervals import Figure, Measured, spread
from pixcell_share.figures.numbers import count, number, percent, quantity
from site_agent.report.audit_questions import NO_ONE_ATTACKED, QUESTIONS, Question

Numbers = Mapping[str, float | int]
Answer = tuple[str, Figure | None]
_REPORTED = "It is reported and not held against a limit."


@dataclass(frozen=True)
class Words:
    """A test, said in words."""

    question: Question
    answer: str
    """What came of it, with every figure that matters."""
    figure: Figure | None
    """What the plot shows; None where counts say it all."""


def words_of(test: AuditTest) -> Words:
    """A test in words; plainly, where a figure that the words need is missing."""
    try:
        return Words(QUESTIONS[test.name], *_ANSWERS[test.name](test.figures, test.limit))
    except (KeyError, ZeroDivisionError):
        return _plain(test)


def _plain(test: AuditTest) -> Words:
    figures, limits = _listed(test.figures), _listed(test.limit)
    known = QUESTIONS.get(test.name, Question(test.name.replace("_", " ").capitalize(), ""))
    held = f" Limits: {limits}." if limits else ""
    return Words(known, f"{figures or 'No figure was given'}.{held}", None)


def _listed(values: Numbers) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())


def _planted(f: Numbers, limit: Numbers) -> Answer:
    copies = count(f["planted"], "planted copy", "planted copies")
    share = f["caught"] / f["planted"]
    noticed = Measured("copies noticed", share, f["interval_low"], f["interval_high"])
    answer = [
        f"{quantity(f['caught'])} of {copies} were noticed in pixels, which is "
        f"{_written(noticed)}{_least(limit, 'share')}. The encoder alone noticed "
        f"{quantity(f['caught_by_encoder'])}."
    ]
    compared = []
    if f.get("blends"):
        blends, caught = count(f["blends"], "blend"), quantity(f["blends_caught"])
        answer.append(
            f"Of {blends} that are half a real tile, {caught} were noticed"
            f"{_least(limit, 'blend_share')}."
        )
        compared.append(Measured("half blends noticed", f["blends_caught"] / f["blends"]))
    if f.get("negatives"):
        answer.append(
            f"Of {count(f['negatives'], 'tile')} of patients who were left out of the search, "
            f"{quantity(f['negatives_flagged'])} were taken for copies"
            f"{_most(limit, 'negative_share')}, and what chance adds to that."
        )
    return " ".join(answer), Figure(noticed, tuple(compared), limit.get("share"), at_least=True)


def _near_copies(f: Numbers, limit: Numbers) -> Answer:
    answer = (
        f"{quantity(f['near_copies'])} of {count(f['tiles'], 'tile')} score "
        f"{limit['score']:g} or more; none may. The median score is {f['median']:.2f}."
    )
    return answer, None


def _second_encoder(f: Numbers, limit: Numbers) -> Answer:
    ceiling = _measured(f, "ceiling", "linked, if real tiles were released")
    answer = (
        "If the real tiles themselves were released, the attack on patients would link "
        f"{_written(ceiling)} of them beyond the control group. Of "
        f"{count(f['real_tiles'], 'real tile')}, {percent(f['distinct'])} differ from the tile "
        f"nearest to them{_least(limit, 'distinct')}. An embedding has {quantity(f['dim'])} "
        "numbers."
    )
    return answer, Figure(ceiling)


def _retrieval(f: Numbers, limit: Numbers) -> Answer:
    excess = _measured(f, "excess", "beyond the control")
    first = _measured(f, "rank_1", "own real tile is nearest")
    control = Measured("control is nearest", f["control_1"])
    answer = (
        f"{percent(f['rank_1'])} of {count(f['tiles'], 'synthetic tile')} have their own real "
        f"tile as the nearest of {quantity(f['gallery'])}; in the control it is "
        f"{percent(f['control_1'])}. The excess is {_written(excess)}{_most(limit, 'excess')}. "
        f"Among the nearest five: {_written(_measured(f, 'rank_5'))}, control "
        f"{percent(f['control_5'])}."
    )
    return answer, Figure(excess, (first, control), limit.get("excess"))


def _linkage(f: Numbers, limit: Numbers) -> Answer:
    if not f["patients"]:
        return NO_ONE_ATTACKED, None
    residual = _measured(f, "residual", "beyond the control")
    attack = _measured(f, "attack", "patients in the cohort, claimed", "attack_rate")
    control = _measured(f, "control", "patients set aside, claimed", "control_rate")
    answer = (
        f"The attack claims {percent(attack.value)} of {count(f['patients'], 'patient')} in the "
        f"cohort, and {percent(control.value)} of {count(f['holdout_patients'], 'patient')} set "
        f"aside. What goes beyond the control, the residual, is {_written(residual)}"
        f"{_most(limit, 'residual')}. The AUC, which is 0.5 where the two groups cannot be told "
        f"apart, is {_written(_measured(f, 'auc'), share=False)}. {_noticeable(f, limit)}"
    )
    return answer, Figure(residual, (attack, control), limit.get("residual"))


def _noticeable(f: Numbers, limit: Numbers) -> str:
    most = _most(limit, "detectable") if limit.get("detectable", 1) < 1 else ""
    if f["detectable"] >= 1:
        return f"With so few patients not even the largest residual would reliably show{most}."
    return f"A residual of {percent(f['detectable'])} would have shown four times in five{most}."


def _copying(f: Numbers, limit: Numbers) -> Answer:
    c_t = _measured(f, "c_t", "C_T of this cohort")
    held = f"{_least(limit, 'c_t', number)}." if "c_t" in limit else f". {_REPORTED}"
    compared = (Measured("no copying", 0.0),)
    figure = Figure(c_t, compared, limit.get("c_t"), at_least=True, share=False)
    return f"C_T is {_written(c_t, share=False)}{held}", figure


def _authenticity(f: Numbers, limit: Numbers) -> Answer:
    authentic = _measured(f, "authentic", "synthetic tiles")
    answer = (
        f"{_written(authentic)} of the synthetic tiles are their own. Of real tiles of patients "
        f"set aside, put in their place, it is {percent(f['control'])}. {_REPORTED}"
    )
    control = Measured(
        "patients set aside", f["control"], f.get("control_low"), f.get("control_high")
    )
    return answer, Figure(authentic, (control,))


def _closest(f: Numbers, limit: Numbers) -> Answer:
    nearer = _measured(f, "nearer", "nearer to the cohort's tiles")
    held = f"{_most(limit, 'nearer')}." if "nearer" in limit else f". {_REPORTED}"
    answer = (
        f"{_written(nearer)} are nearer to the cohort{held} The nearest real tile lies at "
        f"{f['ratio']:.2f} of the distance of the second nearest (lowest 5 %; patients set "
        f"aside: {f['ratio_control']:.2f}). By itself this test shows little."
    )
    return answer, Figure(nearer, (Measured("by chance", 0.5),), limit.get("nearer"))


def _membership(f: Numbers, limit: Numbers) -> Answer:
    loss = _measured(f, "loss_tpr_1", "found by the loss")
    clid = _measured(f, "clid_tpr_1", "found by the discrepancy (CLiD)")
    more, less = (loss, clid) if loss.value > clid.value else (clid, loss)
    aucs = [_written(_measured(f, f"{kind}_auc"), share=False) for kind in ("loss", "clid")]
    strict = [_written(_measured(f, f"{kind}_tpr_01")) for kind in ("loss", "clid")]
    answer = (
        f"Where 1 % of {count(f['nonmembers'], 'other tile')} is claimed wrongly, of "
        f"{count(f['members'], 'training tile')} the loss finds {_written(loss)} and CLiD finds "
        f"{_written(clid)}{_most(limit, 'tpr_1')}. Where 0.1 % is claimed wrongly, they find "
        f"{strict[0]} and {strict[1]}. Their AUC is {aucs[0]} and {aucs[1]}."
    )
    return answer, Figure(more, (less, Measured("by chance", 0.01)), limit.get("tpr_1"))


def _attributes(f: Numbers, limit: Numbers) -> Answer:
    found = f"{count(f['findings'], 'finding')} in {count(f['files'], 'file')}"
    return f"{found}; none is allowed.", None


def _cohort(f: Numbers, limit: Numbers) -> Answer:
    behind = count(f["mix"], "patient") if f["mix"] else "noised statistics of a class"
    answer = (
        f"{count(f['patients'], 'patient')} in the cohort{_least(limit, 'patients', quantity)}. "
        f"{count(f['classes'], 'class', 'classes')}, the smallest with "
        f"{count(f['smallest_class'], 'patient')}{_least(limit, 'class_patients', quantity)}. "
        f"Set aside as the control group: {quantity(f['holdout_patients'])}. Behind each "
        f"synthetic tile: {behind}. The patient with the most real tiles gave "
        f"{quantity(f['tiles_per_patient'])}."
    )
    return answer, None


def _budget(f: Numbers, limit: Numbers) -> Answer:
    kind = "not differentially private"
    if f["private"]:
        kind = f"differentially private, with epsilon {number(f['epsilon'])}, delta {f['delta']:g}"
    answer = (
        f"The release is {kind}; its entry in the site's ledger is number "
        f"{quantity(f['sequence'])}. The most that a patient has now taken part in without "
        f"differential privacy: {count(f['releases'], 'release')}"
        f"{_most(limit, 'releases', quantity)}. The most that a patient has now spent with it: "
        f"epsilon {number(f['total_epsilon'])}{_most(limit, 'epsilon', number)}; delta "
        f"{f['total_delta']:g}{_most(limit, 'delta', number)}."
    )
    return answer, None


_ANSWERS: Mapping[str, Callable[[Numbers, Numbers], Answer]] = {
    "planted_copies": _planted,
    "near_copies_in_pixels": _near_copies,
    "near_copies_in_encoder": _near_copies,
    "second_encoder": _second_encoder,
    "retrieval": _retrieval,
    "patient_linkage": _linkage,
    "patient_linkage_conditioning": _linkage,
    "data_copying": _copying,
    "authenticity": _authenticity,
    "closest_record": _closest,
    "membership": _membership,
    "attributes": _attributes,
    "cohort": _cohort,
    "budget": _budget,
}


def _measured(f: Numbers, prefix: str, name: str = "", value: str = "") -> Measured:
    return Measured(name, f[value or prefix], f[f"{prefix}_low"], f[f"{prefix}_high"])


def _written(found: Measured, *, share: bool = True) -> str:
    return spread(found.value, found.low, found.high, share=share)


def _least(limit: Numbers, name: str, text: Callable[[float], str] = percent) -> str:
    return f"; at least {text(limit[name])} is demanded" if name in limit else ""


def _most(limit: Numbers, name: str, text: Callable[[float], str] = percent) -> str:
    return f"; at most {text(limit[name])} is allowed" if name in limit else ""
