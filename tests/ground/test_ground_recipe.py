import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork import recipe as module
from topwork.errors import UsageError
from topwork.recipe import Recipe, Training

WHOLE, POSITIVE, AMOUNT, SHARE = st.integers(0, 10**6), st.integers(1, 10**6), st.floats(0, 1e6), st.floats(0, 0.99)
TEXT = st.text(min_size=1, alphabet=st.characters(exclude_categories=("Cs",)))
TRAININGS = st.builds(
    Training,
    budget=st.floats(1e-3, 1e9),
    holdout=st.floats(0.01, 0.5),
    refit=st.booleans(),
    cut=TEXT,
    views=WHOLE,
    input_size=WHOLE,
    unfreeze=TEXT,
    augment=st.sampled_from(module.AUGMENTATIONS),
    epochs=WHOLE,
    head_epochs=WHOLE,
    batch_size=POSITIVE,
    accumulate=POSITIVE,
    rate=AMOUNT,
    head_rate=AMOUNT,
    stage_decay=st.floats(0, 1),
    rate_factors=st.lists(AMOUNT, max_size=4).map(tuple),
    schedule=st.sampled_from(module.SCHEDULES),
    warmup=SHARE,
    weight_decay=AMOUNT,
    label_smoothing=SHARE,
    mixup=AMOUNT,
    cutmix=AMOUNT,
    batch_norm=st.sampled_from(module.BATCH_NORMS),
    patience=WHOLE,
    devices=POSITIVE,
    nodes=POSITIVE,
    precision=st.sampled_from(module.PRECISIONS),
)


def only_taken(training: Training, **values: Any) -> Recipe:
    """A recipe in which what the strategy does not take, or another setting leaves no place for, is as if not given."""
    taken = module.TAKEN[values["strategy"]]
    if values["folds"]:
        taken -= {"holdout"}
    if training.rate_factors:
        taken -= {"stage_decay"}
    if training.augment == "none":
        taken -= {"views"}
    own = {entry.name for entry in dataclasses.fields(Training)} & taken
    kept = Training(**{name: value for name, value in vars(training).items() if name in own})
    return Recipe(**{name: value for name, value in values.items() if name in taken}, training=kept)


RECIPES = st.builds(
    only_taken,
    strategy=st.sampled_from(module.STRATEGIES),
    backbone=TEXT,
    head=st.sampled_from(module.HEADS),
    features=st.sampled_from(module.FEATURES),
    geometry=st.sampled_from(module.GEOMETRIES),
    folds=st.one_of(st.just(0), st.integers(3, 10**6)),
    seed=st.integers(0, 2**63 - 1),
    coverage=st.floats(0, 1, exclude_min=True, exclude_max=True),
    group_duplicates=st.booleans(),
    duplicate_keys=st.booleans(),
    max_pixels=st.integers(1, 10**9),
    head_limit=st.integers(100, 10**9),
    training=TRAININGS,
)


@settings(max_examples=100, deadline=None)
@given(RECIPES)
def test_toml_and_dict_round_trips(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    path.write_bytes(recipe.to_toml().encode())
    assert Recipe.from_toml(path) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_the_recipes_cover_every_setting() -> None:
    assert len(dataclasses.fields(Recipe)) == 13, "a new setting: add it to RECIPES above"
    assert len(dataclasses.fields(Training)) == 27, "a new setting: add it to TRAININGS above"


# f, t, u, s, a: the strategies features, top, full, scratch and auto.
TAKEN_BY: dict[str, tuple[str, Any]] = {
    "head": ("fa", "ridge"),
    "features": ("fa", "pooled"),
    "geometry": ("ftusa", "pad"),
    "folds": ("ftusa", 4),
    "seed": ("ftusa", 7),
    "coverage": ("ftusa", 0.9),
    "group_duplicates": ("ftusa", False),
    "duplicate_keys": ("ftusa", False),
    "max_pixels": ("ftusa", 10**6),
    "head_limit": ("ftusa", 500),
    "backbone": ("ftusa", "mobilenetv2_100"),
    "budget": ("a", 60.0),
    "holdout": ("tusa", 0.3),
    "refit": ("tusa", True),
    "cut": ("ta", "blocks.5"),
    "views": ("ta", 3),
    "input_size": ("s", 64),
    "unfreeze": ("ua", "blocks.5"),
    "head_epochs": ("ua", 3),
    "stage_decay": ("usa", 0.5),
    "rate_factors": ("usa", (0.1, 1.0)),
    "batch_norm": ("usa", "frozen"),
    "augment": ("tusa", "strong"),
    "epochs": ("tusa", 3),
    "batch_size": ("tusa", 8),
    "accumulate": ("tusa", 2),
    "rate": ("tusa", 1e-3),
    "head_rate": ("tusa", 1e-3),
    "schedule": ("tusa", "cosine"),
    "warmup": ("tusa", 0.1),
    "weight_decay": ("tusa", 0.0),
    "label_smoothing": ("tusa", 0.0),
    "mixup": ("tusa", 0.2),
    "cutmix": ("tusa", 0.2),
    "patience": ("tusa", 3),
    "devices": ("tusa", 2),
    "nodes": ("tusa", 2),
    "precision": ("tusa", "bf16-mixed"),
}


def test_every_setting_is_taken_by_somebody_who_says_so() -> None:
    settings = {entry.name for entry in (*dataclasses.fields(Recipe), *dataclasses.fields(Training))}
    assert TAKEN_BY.keys() == settings - {"strategy", "training"}


@pytest.mark.parametrize("letter", "ftusa")
@pytest.mark.parametrize("name", TAKEN_BY)
def test_what_a_strategy_does_not_take_is_refused(name: str, letter: str) -> None:
    takers, value = TAKEN_BY[name]
    strategy = {"f": "features", "t": "top", "u": "full", "s": "scratch", "a": "auto"}[letter]
    own = name in {entry.name for entry in dataclasses.fields(Training)}
    values: dict[str, Any] = {"training": {name: value}} if own else {name: value}
    if letter in takers:
        recipe = Recipe(strategy=strategy, **values)
        assert getattr(recipe.training if own else recipe, name) == value
        return
    with pytest.raises(UsageError, match=rf"^{name} is for the strateg.*, not for {strategy}; leave it out, or choose"):
        Recipe(strategy=strategy, **values)


@pytest.mark.parametrize(
    "values",
    [
        {"strategy": "top", "folds": 5, "training": {"holdout": 0.3}},
        {"strategy": "full", "training": {"stage_decay": 0.5, "rate_factors": (0.1, 1.0)}},
        {"strategy": "top", "training": {"augment": "none", "views": 3}},
    ],
)
def test_of_two_settings_none_is_ignored(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="leave one of them out"):
        Recipe(**values)


def test_missing_settings_keep_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('head = "svm"\n# the rest as it is\n')
    assert Recipe.from_toml(path) == Recipe(head="svm")


BAD: list[tuple[str, Any]] = [
    ("strategy", "magic"),
    ("head", "swm"),
    ("head", 3),
    ("head", ["svm"]),
    ("features", "pool"),
    ("geometry", None),
    ("backbone", ""),
    ("backbone", 7),
    ("folds", 1),
    ("folds", 2),
    ("folds", -1),
    ("folds", 5.0),
    ("folds", "5"),
    ("folds", True),
    ("seed", -1),
    ("seed", 1.5),
    ("coverage", 0),
    ("coverage", 1),
    ("coverage", 1.0),
    ("coverage", math.nan),
    ("coverage", "0.9"),
    ("coverage", True),
    ("group_duplicates", 1),
    ("group_duplicates", "yes"),
    ("max_pixels", 0),
    ("max_pixels", 1e6),
    ("head_limit", 99),
    ("training", 3),
    ("training", "light"),
]

BAD_TRAINING: list[tuple[str, Any]] = [
    ("augment", "heavy"),
    ("schedule", "linear"),
    ("batch_norm", True),
    ("precision", "64"),
    ("epochs", -1),
    ("epochs", 1.5),
    ("views", -1),
    ("batch_size", 0),
    ("devices", True),
    ("rate", -1e-3),
    ("rate", "fast"),
    ("rate", math.nan),
    ("budget", 0),
    ("holdout", 0),
    ("holdout", 0.6),
    ("warmup", 1.0),
    ("label_smoothing", 1),
    ("stage_decay", 1.1),
    ("rate_factors", ["much"]),
    ("refit", "yes"),
    ("cut", 4),
]


@pytest.mark.parametrize(("name", "value"), BAD_TRAINING)
def test_bad_training_settings_are_refused_in_one_sentence(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe(training={name: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values_are_refused_in_one_sentence(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe.from_dict({name: value})
    message = str(caught.value)
    assert message.startswith(name)
    assert repr(value) in message
    assert "\n" not in message


def test_unknown_keys_get_a_hint() -> None:
    with pytest.raises(UsageError, match=r"^a recipe has no setting 'sed': did you mean seed\?$"):
        Recipe.from_dict({"sed": 1})
    with pytest.raises(UsageError, match="did you mean svm"):
        Recipe(head="swm")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"head = ", "expected TOML in"),
        (b"\xff\xfe", "expected TOML in"),
        (b"[head]\nkind = 'svm'\n", "head must be one of"),
        (b"[training]\nsteps = 3\n", "the table training has no setting 'steps'"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=expected) as caught:
        Recipe.from_toml(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match=r"expected a recipe file at .*; check the path"):
            Recipe.from_toml(path)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().seed = 3  # type: ignore[misc]
