"""Treatments, plans and stamps: arrays and rows alone."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.evaluation.vectors import normalized
from topwork.images import Sample
from topwork.retrieval.planning import Seen, plan
from topwork.retrieval.stamps import file_facts, stamp
from topwork.retrieval.table import Row
from topwork.retrieval.treatment import TREATMENTS, Treatment, fit


def cloud(n: int = 300, d: int = 12) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.asarray(random.normal(size=(n, d)) * np.linspace(3, 0.2, d) + 5, np.float32)


def test_plain_vectors_are_the_features_at_length_1() -> None:
    features = cloud()
    np.testing.assert_allclose(fit("plain", [features])(features), normalized(features), atol=1e-6)


def test_centred_vectors_have_lost_the_mean() -> None:
    features = cloud()
    unit = normalized(features)
    np.testing.assert_allclose(fit("centred", [features])(features), normalized(unit - unit.mean(0)), atol=1e-5)


def test_principal_axes_are_those_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    features = cloud()
    unit = normalized(features)
    treated = fit("pca", [features[:100], features[100:]])(features)
    reference = normalized(PCA(treated.shape[1]).fit_transform(unit).astype(np.float32))
    np.testing.assert_allclose(np.abs(treated), np.abs(reference), atol=1e-3)  # an axis has no sign


def test_whitened_coordinates_have_equal_variances() -> None:
    features = cloud()
    made = fit("whitened", [features])
    assert made.mean is not None
    assert made.axes is not None
    coordinates = (normalized(features) - made.mean) @ made.axes
    np.testing.assert_allclose(np.cov(coordinates.T), np.eye(coordinates.shape[1]), atol=0.02)


@pytest.mark.parametrize("name", TREATMENTS)
def test_chunks_do_not_matter_and_bytes_come_back(name: str) -> None:
    features = cloud()
    made = fit(name, [features])
    pieces = fit(name, np.array_split(features, 7))
    np.testing.assert_allclose(np.abs(made(features)), np.abs(pieces(features)), atol=1e-3)
    again = Treatment.from_bytes(made.to_bytes())
    np.testing.assert_array_equal(again(features), made(features))
    assert (again.fitted_on, again.width(12)) == (made.fitted_on, made(features).shape[1])


@pytest.mark.parametrize("name", TREATMENTS)
def test_few_pictures_are_compared_as_they_are(name: str) -> None:
    few = cloud(5)
    np.testing.assert_allclose(fit(name, [few])(few), normalized(few), atol=1e-6)
    assert fit(name, []).fitted_on == 0


def row(number: int, path: str, content: str) -> Row:
    facts = {"size": None, "time": None, "width": 1, "height": 1, "format": "PNG", "sharpness": 0.0, "brightness": 0.0}
    more = {"label": None, "split": None, "group": None, "phash": 0, "stamp": None}
    return Row(id=number, source=1, path=path, location=path, content=content, **facts, **more)  # type: ignore[arg-type]


paths = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("XYZW"), max_size=8)


@settings(max_examples=300, deadline=None)
@given(before=paths, after=paths, keep=st.booleans())
def test_a_plan_leads_to_what_is_there_now(before: dict[str, str], after: dict[str, str], keep: bool) -> None:
    rows = [row(number, path, content) for number, (path, content) in enumerate(before.items())]
    made = plan(rows, [Seen(Sample(path, path), content, None) for path, content in after.items()], keep_missing=keep)
    table = {each.path: each.content for each in rows}
    for each in made.remove:
        del table[each.path]
    for old, seen in made.move:
        del table[old.path]
        table[seen.sample.id] = seen.content
        assert old.content == seen.content
        assert old.path not in after
    for old, seen in (*made.keep, *made.replace):
        assert old.path == seen.sample.id
        assert (old.content == seen.content) == ((old, seen) in made.keep)
        table[seen.sample.id] = seen.content
    table |= {seen.sample.id: seen.content for seen in made.insert}
    assert {path: table[path] for path in after} == after
    assert keep or set(table) == set(after)
    touched = [each.id for each in made.remove] + [old.id for old, _ in (*made.move, *made.keep, *made.replace)]
    assert len(set(touched)) == len(touched)
    assert not made.remove or not {each.content for each in made.remove} & {seen.content for seen in made.insert}


def test_stamps_tell_a_file_by_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    assert stamp(str(path)) is None  # a moment ago
    os.utime(path, ns=(1, 7_000_000_001))
    assert stamp(str(path)) == stamp(f"drawing://0+5::{path}") == "5:7000000001"
    assert file_facts(Sample("a", str(path))) == {"size": 5, "time": "1970-01-01 00:00:07"}
    assert file_facts(Sample("a", f"drawing://0+5::{path}")) == {"size": None, "time": None}
    os.utime(path, (time.time() + 999, time.time() + 999))  # a clock that goes wrong
    assert stamp(str(path)) is None
