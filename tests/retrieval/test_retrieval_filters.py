"""A filter chooses rows, and can do nothing else."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from topwork.errors import UsageError
from topwork.retrieval import Index
from topwork.retrieval import filters as filters_module
from topwork.retrieval.filters import matching
from topwork.retrieval.table import COLUMNS, FILE


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("label = 'dots'", lambda row: row.label == "dots"),
        (
            "label IN ('dots', 'checks') AND NOT path LIKE '%003%'",
            lambda row: row.label != "stripes" and "003" not in row.path,
        ),
        ("width * height > 1000 OR label IS NULL", lambda row: True),
        ("label = 'it''s'", lambda row: False),
        ("upper(substr(label, 1, 1)) = 'S'", lambda row: row.label == "stripes"),
        ("label = 'dots' -- a comment", lambda row: row.label == "dots"),
        ('"group" IS NULL AND size BETWEEN 1 AND 1e9', lambda row: True),
        ("time > '2020-01-01'", lambda row: True),
        ("label = 'dots') OR (label = 'checks'", lambda row: row.label != "stripes"),  # odd, but only a filter
    ],
)
def test_an_expression_chooses_rows(indexed: Index, where: str, expected: object) -> None:
    assert matching(indexed.path, where).tolist() == [row.id for row in indexed.rows() if expected(row)]  # type: ignore[operator]


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_can_be_named(indexed: Index, name: str) -> None:
    assert len(matching(indexed.path, f'"{name}" IS NOT NULL OR "{name}" IS NULL')) == len(indexed)


def test_values_are_parameters(indexed: Index) -> None:
    hostile = "dots' OR '1'='1"
    assert matching(indexed.path, "label = ?", ("dots",)).size == 8
    assert matching(indexed.path, "label = ?", (hostile,)).size == 0
    assert matching(indexed.path, "label LIKE ? AND path GLOB ? AND id = ?1 + ?3", ("dots", "*", 0)).size == 0
    assert matching(indexed.path, "label LIKE ?", ("do%",)).size == 8
    with pytest.raises(UsageError, match="is none"):
        matching(indexed.path, "label = ?")


@pytest.mark.parametrize(
    "where",
    [
        "1); DELETE FROM pictures; --",
        "1) UNION SELECT value FROM facts; --",
        "id IN (SELECT id FROM parts)",
        "(SELECT count(*) FROM sqlite_master) > 0",
        "location LIKE '%'",  # not one of the columns
        "stamp IS NULL",
        "load_extension('x')",
        "writefile('x', 'y')",
        "readfile('/etc/passwd') <> ''",
        "1); ATTACH DATABASE 'stolen.sqlite' AS other; --",
        "1) ; PRAGMA journal_mode = WAL; --",
        "randomblob(1000000000) IS NULL",
        "id IN (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)",
        "label = 'dots' AND",
        "",
        "\0",
        "nothing = 1",
        "\"lable\" = 'dots'",
        "fts3_tokenizer('x') = 1",
        "id IN (SELECT a.id FROM pictures a, pictures b)",
        "EXISTS (SELECT 1 FROM pictures)",
    ],
)
def test_whatever_does_more_is_refused_and_changes_nothing(
    indexed: Index, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(indexed.path, tmp_path / "copy.index")
    monkeypatch.chdir(tmp_path)
    before = (copy / FILE).read_bytes()
    with pytest.raises(UsageError, match="expected a filter such as"):
        matching(copy, where)
    assert (copy / FILE).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.index"]


def test_an_endless_expression_is_stopped(indexed: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters_module, "_SECONDS", 0.0)
    monkeypatch.setattr(filters_module, "_STEPS", 1)
    with pytest.raises(UsageError, match="it took more than"):
        matching(indexed.path, "replace(replace(path, 'a', path), 'b', path) LIKE '%zz%'")


def test_a_filter_works_where_nothing_can_be_written(indexed: Index, tmp_path: Path) -> None:
    copy = shutil.copytree(indexed.path, tmp_path / "copy.index")
    (copy / FILE).chmod(0o444)
    copy.chmod(0o555)
    try:
        assert matching(copy, "label = 'dots'").size == 8
        assert sorted(path.suffix for path in copy.iterdir()) == [".json", ".sqlite", ".usearch"]
    finally:
        copy.chmod(0o755)


def test_the_connection_of_a_filter_cannot_write(indexed: Index) -> None:
    database = sqlite3.connect(f"{(indexed.path / FILE).absolute().as_uri()}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.execute("DELETE FROM pictures")
    database.close()


def test_a_refusal_is_one_sentence(indexed: Index) -> None:
    """SQLite quotes what it could not read, with what was put behind it."""
    for where in (
        "label = 'a",
        'length(path) > 3 AND" NOT label IS NULL',
        "label\n=\n'x' AND (",
        "label " + "[" * 9000,
    ):
        with pytest.raises(UsageError) as caught:
            matching(indexed.path, where)
        assert "\n" not in str(caught.value)
        assert "ORDER BY" not in str(caught.value)
        assert len(str(caught.value)) < 1000
