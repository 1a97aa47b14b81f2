"""How a network was trained, as the template of a fit wants it: curves, the same in numbers, settings, and in words."""

from collections.abc import Sequence
from decimal import ROUND_UP, Decimal

from topwork.report import curves, words
from topwork.report.common import Facts, View, block, flat, rows, safe
from topwork.report.curves import Series
from topwork.report.strategies import refit_note
from topwork.report.words import number, percent

Point = tuple[float, float]

SUBJECT = {
    "top": "The last stages of the pretrained network were trained further",
    "full": "The whole pretrained network was trained further",
    "scratch": "A network with new weights, which had seen nothing before, was trained",
}


def training_view(facts: Facts) -> View | None:
    """Everything the section on the training shows."""
    training = block(facts, "training")
    if not training:
        return None
    epochs = rows(training, "epochs")
    stopped = str(training.get("stopped") or "")
    device = {"device": training["device"]} if training.get("device") else {}
    return {
        "what": _what(training),
        "parameters": _parameters(block(training, "parameters")),
        "stopped": f"It was stopped early: {stopped}." if stopped else "",
        "resumed": training.get("resumed") is True,
        "refit": refit_note(facts),
        "export": _export(number(training.get("export_difference"))),
        "charts": _charts(epochs, rows(training, "rates")),
        "held": _held(epochs, stopped),
        "epochs": [_epoch(row) for row in epochs],
        "settings": flat({**block(training, "settings"), **device}),
    }


def _what(training: Facts) -> str:
    """What was trained on how much, in words."""
    subject = SUBJECT.get(str(training.get("strategy")), "The network was trained")
    n, epochs = number(training.get("n_training")), len(rows(training, "epochs"))
    text = f"{subject} on {words.count(int(n), 'picture')}" if n else subject
    passes = f" in {words.count(epochs, 'epoch')}; an epoch is one pass over the training pictures" if epochs else ""
    return f"{text}{passes}."


def _parameters(parameters: Facts) -> str:
    """How much of the network changed, in words; empty when it is not known."""
    trained, frozen = number(parameters.get("trained")), number(parameters.get("frozen"))
    if trained is None:
        return ""
    if not frozen:
        return f"All {words.amount(trained)} parameters, the numbers that a network consists of, were trained."
    return (
        f"Of the {words.amount(trained + frozen)} parameters, the numbers that a network consists of,"
        f" {words.amount(trained)} were trained; the other {words.amount(frozen)} stayed frozen, as they came."
    )


def _export(difference: float | None) -> str:
    """How closely the shipped graph answers as the network that was trained; rounded up, never down."""
    if difference is None:
        return ""
    start = "The exported graph, which is what ships, answers as the trained network"
    if difference <= 0:
        return f"{start}: every probability is the same."
    exact = Decimal(str(difference))
    shown = f"{exact.quantize(Decimal(1).scaleb(exact.adjusted()), rounding=ROUND_UP):f}"
    return f"{start} to {shown}: no probability differs by more."


def _charts(epochs: Sequence[Facts], rates: Sequence[Sequence[float]]) -> list[View]:
    """The curves that have points, each with what it shows."""
    loss = [_series(epochs, "training", "other", "loss"), _series(epochs, "held out", "curve", "held_loss")]
    right = [
        _series(epochs, "training", "other", "training_accuracy"),
        _series(epochs, "held out", "curve", "accuracy"),
    ]
    rate = [Series("", "curve", _rates(rates))]
    drawn = (
        ("Loss", "how far the answers are from the labels; lower is better.", curves.amount_curves, loss, "epoch"),
        ("Accuracy", "the share of right answers; higher is better.", curves.share_curves, right, "epoch"),
        (
            "Learning rate",
            "how far each step of training moves the parameters; here that of the last stage.",
            curves.amount_curves,
            rate,
            "step",
        ),
    )
    charts = [
        {"name": name, "meaning": meaning, "svg": draw(series, across, f"{name} by {across}")}
        for name, meaning, draw, series, across in drawn
    ]
    return [{**chart, "svg": safe(str(chart["svg"]))} for chart in charts if chart["svg"]]


def _series(epochs: Sequence[Facts], name: str, kind: str, key: str) -> Series:
    """One column of the epochs as a line, without the epochs where it was not measured."""
    points = [(number(row.get("epoch")), number(row.get(key))) for row in epochs]
    return Series(name, kind, sorted((x, y) for x, y in points if x is not None and y is not None))


def _rates(rates: Sequence[Sequence[float]]) -> list[Point]:
    points = [(number(pair[0]), number(pair[1])) for pair in rates if len(pair) == 2]
    return sorted((step, rate) for step, rate in points if step is not None and rate is not None)


def _held(epochs: Sequence[Facts], stopped: str) -> str:
    """What the curves are good for; empty without held-out figures."""
    if not any(number(row.get(key)) is not None for row in epochs for key in ("accuracy", "held_loss")):
        return ""
    looked_at = "are for looking at: they did not choose which weights are kept"
    use = "stand beside those of the training pictures" if stopped else looked_at
    return (
        f"The held-out figures of each epoch {use}. The training figures are taken while the network learns, on"
        " pictures that are varied on purpose, so they can be the worse ones."
    )


def _epoch(row: Facts) -> list[str]:
    epoch, seconds = number(row.get("epoch")), number(row.get("seconds"))
    return [
        "" if epoch is None else f"{epoch:,.0f}",
        *(_loss(number(row.get(key))) for key in ("loss", "held_loss")),
        *(_share(number(row.get(key))) for key in ("training_accuracy", "accuracy")),
        "" if seconds is None else words.duration(seconds),
    ]


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "" if value is None else percent(value, 1)
