"""Make an index, or bring it up to date: read what is new or has changed, note what is gone or was moved.

The pass over the pixels needs no lock: what it finds is in the cache. Then one transaction compares the table with the
source as it is now, makes the vectors durable, and changes the rows; a second run waits there, and finds less to do.
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from topwork.errors import SourceError, TopworkError, UsageError
from topwork.features.cache import FeatureCache
from topwork.features.extraction import FACTS, THUMBNAIL, extract, load, load_facts, load_measure
from topwork.images import Excluded, ImageSource, Sample
from topwork.images.sniff import shown
from topwork.progress import Progress, Silent, step
from topwork.retrieval import known
from topwork.retrieval import settings as index_settings
from topwork.retrieval.planning import Plan, Seen, plan
from topwork.retrieval.settings import VIEWS, Settings
from topwork.retrieval.stamps import file_facts, file_of, stamp
from topwork.retrieval.store import Floats, Ints, Store
from topwork.retrieval.table import Parts, Row, Table
from topwork.retrieval.treatment import FEWEST, TREATMENTS, Treatment, fit

_AT_ONCE = 2_000  # pictures whose features are in memory
_GROWTH = 2  # times the pictures that a treatment was made from: then it is made anew
_WORN = 4  # a change that removes more than 1/4 builds the vectors anew: a graph with holes answers worse


def update(
    source: Any,
    out: Path,
    *,
    backbone: str | None = None,
    features: str | None = None,
    vectors: str | None = None,
    store: str | None = None,
    add: bool = False,
    rebuild: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Bring the index ``out`` to what ``source`` holds now, or make it; returns the JSON of ``topwork index --json``.

    ``add`` keeps everything else that is in the index; ``rebuild`` makes the vectors anew from what the table keeps.
    UsageError where the index was made with other settings than those given, or of another source.
    """
    begun, progress = time.perf_counter(), progress or Silent()
    images = ImageSource.open(source, progress=progress)
    for note in images.notes:
        progress.say(note)
    asked = {"backbone": backbone, "features": features, "vectors": vectors, "store": store}
    is_new = not index_settings.exists(out)
    if is_new:
        index_settings.create(out, Settings.of(**asked))
    settings = index_settings.read(out)
    settings.check(out, **asked)
    table = Table(out)
    try:
        trusted = known.sources_of(settings.digest(table.examine()))
        run = _Run(out, settings, table, settings.open_store(out), images, add, rebuild, trusted, progress)
        facts = run()
    except SourceError:
        if is_new:
            _remove_empty(out, table)
        raise
    finally:
        table.close()
    seconds = time.perf_counter() - begun
    return {"index": str(out), "source": images.root, **facts, "seconds": round(seconds, 4)}


def _remove_empty(out: Path, table: Table) -> None:
    """Take away an index that was made in vain, unless another run has put something into it."""
    with table.changing():
        if not table.counts()[0]:
            shutil.rmtree(out, ignore_errors=True)


def _reasons(left_out: Sequence[Excluded]) -> str:
    """Why pictures cannot be read, the most frequent reason first, each with one of them.

    >>> _reasons([Excluded("a.heic", "HEIC is not read"), Excluded("b.heic", "HEIC is not read")])
    '2 left out, such as a.heic (HEIC is not read)'
    """
    by_reason: dict[str, list[str]] = {}
    for each in left_out:
        if each.is_fault:
            by_reason.setdefault(each.reason, []).append(each.path)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    found = [f"{len(paths):,} left out, such as {shown(paths[0])} ({reason})" for reason, paths in ordered[:3]]
    return "; ".join([*found, *([f"{len(ordered) - 3} more reasons"] if len(ordered) > 3 else [])])


@dataclass
class _Run:
    out: Path
    settings: Settings
    table: Table
    store: Store
    images: ImageSource
    add: bool
    rebuild: bool
    trusted: frozenset[str]
    """Roots of the sources whose rows topwork wrote on this computer; the others may be a stranger's."""
    progress: Progress
    _prepared: str = ""

    def __call__(self) -> dict[str, Any]:
        self._source()  # refuse before the work
        with FeatureCache() as cache:
            seen, excluded = self._read(cache)
            left_out = [*excluded, *self.images.excluded]
            unread = {item.path for item in left_out if item.is_fault}
            self._check_any(seen, left_out)
            old = str(self.table.fact("state", ""))
            try:
                with self.table.changing():
                    before = self.table.changes
                    facts, states, gone = self._change(seen, unread, cache)
                    changed = self.table.changes > before
                    digest = self.table.set_digest() if changed else self.table.fact("digest", "")
            except BaseException:
                self._take_back(old)
                raise
            self._note(digest, seen)
            cache.trim()
        self.store.settle(*states, gone)
        return {**facts, "excluded": [vars(item) for item in left_out]}

    def _take_back(self, old: str) -> None:
        """Remove vectors that were made in vain: the disk may be full."""
        with suppress(TopworkError, OSError):
            if self._prepared and self._prepared != old and self.table.fact("state", "") == old:
                self.store.settle(self._prepared, old, [])

    def _check_any(self, seen: Sequence[Seen], left_out: Sequence[Excluded]) -> None:
        """SourceError where an index would be without any picture, with the reasons."""
        elsewhere = len(seen) + len(left_out) < len(self.images.samples)  # in it already, from another source
        if not seen and not elsewhere and not self.table.counts()[0]:
            raise SourceError(
                f"expected pictures that can be read in {self.images.root or 'the list'}, but there is none: "
                f"{_reasons(left_out)}"
            )

    def _note(self, digest: str, seen: Sequence[Seen]) -> None:
        """Note that this table was written here, and of which sources every row was."""
        root, trusted = self.images.root, self.trusted
        here = {each.sample.id for each in seen}
        numbers = {place: number for number, place, _, _ in self.table.sources()}
        if root not in trusted and all(row.path in here for row in self.table.rows() if row.source == numbers[root]):
            trusted |= {root}
        trusted &= numbers.keys()
        known.note_whole(known.stamp(self.table.path), digest)
        known.note_written(self.settings.digest(digest), trusted)

    def _source(self) -> tuple[int | None, str]:
        """Number of the source in the table, None for a new one, and its root; UsageError where it may not be added."""
        root, sources = self.images.root, self.table.sources()
        known = {place: number for number, place, _, _ in sources}
        if root in known or not known:
            return known.get(root), root
        for number, place, _, _ in sources:
            local = file_of(place)
            if local and not os.path.exists(local) and self._is_moved(number):
                return number, root
        if self.add:
            return None, root
        other = sources[0][1]
        raise UsageError(
            f"expected pictures of {other or 'the list'}, of which {self.out} is an index, but got {root or 'a list'}; "
            "add these to it with --add, or give another -o"
        )

    def _is_moved(self, number: int) -> bool:
        """Whether most pictures of a source are here, at the same places and of the same size."""
        rows = [row for row in self.table.rows() if row.source == number]
        here = {sample.id: sample for sample in self.images.samples}
        same = [row for row in rows if row.path in here and file_facts(here[row.path])["size"] == row.size]
        return 2 * len(same) > len(rows)

    def _read(self, cache: FeatureCache) -> tuple[list[Seen], list[Excluded]]:
        """Every picture that can be read, with its content; only those are read that may have changed."""
        number, _ = self._source()
        rows = self.table.rows()
        known = {row.path: row for row in rows if row.source == number}
        taken = {row.location for row in rows if row.source != number}
        samples = [sample for sample in self.images.samples if sample.location not in taken]
        stamps = {sample.id: stamp(sample.location) for sample in samples}
        unchanged = {
            sample.id: known[sample.id].content
            for sample in samples
            if sample.id in known and stamps[sample.id] is not None and stamps[sample.id] == known[sample.id].stamp
        }
        found = self._extract([sample for sample in samples if sample.id not in unchanged], cache)
        contents = unchanged | {sample.id: content for sample, content in zip(found.samples, found.hashes, strict=True)}
        seen = [Seen(each, contents[each.id], stamps[each.id]) for each in samples if each.id in contents]
        return seen, list(found.excluded)

    def _extract(self, samples: Sequence[Sample], cache: FeatureCache) -> Any:
        graphs = [self.settings.graph(), *([self.settings.twins()] if self.settings.needs_twins else [])]
        graphs = list({graph.fingerprint: graph for graph in graphs}.values())
        return extract(
            samples, graphs, self.settings.policy(), cache, measures=(FACTS, THUMBNAIL), progress=self.progress
        )

    def _change(
        self, seen: list[Seen], unread: set[str], cache: FeatureCache
    ) -> tuple[dict[str, Any], tuple[str, str], list[int]]:
        """Everything that happens while others wait: what was done, the old and new state, who is gone."""
        number, root = self._source()
        rows = self.table.rows()
        taken = {row.location for row in rows if row.source != number}
        is_own = root in self.trusted  # another's rows are not kept for what they say of a file
        own = [row for row in rows if row.source == number and not (is_own and _is_kept(row, unread))]
        changes = plan(own, [each for each in seen if each.sample.location not in taken], keep_missing=self.add)
        source = (root, self.images.kind, self._beside(root))
        if (number, *source) not in self.table.sources():
            number = self.table.set_source(number, *source)
        assert number is not None
        added = self._write_rows(changes, number, cache)
        old = str(self.table.fact("state", ""))
        new = self._write_vectors(old, added, changes.gone)
        facts = {
            "added": len(changes.insert),
            "updated": len(changes.replace),
            "moved": len(changes.move),
            "unchanged": len(changes.keep),
            "elsewhere": sum(sample.location in taken for sample in self.images.samples),
            "removed": len(changes.remove),
            "pictures": self.table.counts()[0],
        }
        return facts, (old, new), changes.gone

    def _beside(self, root: str) -> str:
        """The root seen from the index, so that both can be moved together."""
        local = file_of(root)
        if not local:
            return ""
        try:
            return os.path.relpath(local, self.out.resolve().parent)
        except ValueError:  # another drive
            return ""

    def _write_rows(self, changes: Plan, source: int, cache: FeatureCache) -> list[int]:
        """Change the rows; returns the numbers of the new ones."""
        for row, seen in (*changes.keep, *changes.move):
            now = _of_sample(seen) | {"source": source}
            different = {name: value for name, value in now.items() if getattr(row, name) != value}
            if different:
                self.table.update(row.id, different)
        self.table.remove(changes.gone)
        added = []
        new = changes.new
        with step(self.progress, "writing rows", total=len(new)):
            for start in range(0, len(new), _AT_ONCE):
                part = new[start : start + _AT_ONCE]
                for values, parts in self._rows_of(part, source, cache):
                    added.append(self.table.insert(values, parts))
                self.progress.advance("writing rows", len(part))
        return added

    def _rows_of(
        self, part: Sequence[Seen], source: int, cache: FeatureCache
    ) -> Iterator[tuple[dict[str, Any], Parts]]:
        settings, policy = self.settings, self.settings.policy()
        contents = [seen.content for seen in part]
        features = load(contents, settings.graph(), VIEWS[settings.features], policy, cache)
        twins = load(contents, settings.twins(), "features", policy, cache) if settings.needs_twins else None
        thumbnails = load_measure(contents, THUMBNAIL, policy, cache)
        unit = Treatment()
        for i, (seen, facts) in enumerate(zip(part, load_facts(contents, policy, cache), strict=True)):
            measured = {name: getattr(facts, name) for name in ("width", "height", "format", "sharpness", "brightness")}
            values = _of_sample(seen) | measured | {"source": source, "content": seen.content}
            values["phash"] = int(np.uint64(facts.phash).astype(np.int64))
            own = unit(features[i : i + 1])[0]
            yield values, Parts(thumbnails[i], own, None if twins is None else unit(twins[i : i + 1])[0])

    def _write_vectors(self, state: str, added: Sequence[int], gone: Sequence[int]) -> str:
        """Make the vectors of the table's rows durable; returns the store's new state, which the table now names."""
        count = self.table.counts()[0]
        if not count:
            if state:
                self.table.set_fact("state", "")
            return ""
        known = Treatment.from_bytes(data) if (data := self.table.fact("treatment")) else None
        anew = self.rebuild or len(gone) * _WORN > count
        if known is None or anew or _is_outgrown(self.settings, known, count):
            anew, known = True, fit(self.settings.vectors, (chunk for _, chunk in self._features(self._all())))
            self.table.set_fact("treatment", known.to_bytes())
        if not anew and not added and not gone:
            return state
        numbers = self._all() if anew else np.array(added, np.int64)
        width = known.width(self._width())
        with step(self.progress, "building the index", total=len(numbers)):
            chunks = ((part, self._advanced(known(chunk))) for part, chunk in self._features(numbers))
            state = self._prepared = self.store.prepare(state, chunks, gone, width=width, anew=anew)
        if state != self.table.fact("state"):
            self.table.set_fact("state", state)
        return state

    def _all(self) -> Ints:
        return self.table.numbers()

    def _width(self) -> int:
        return int(self.table.features(self._all()[:1]).shape[1])

    def _features(self, numbers: Ints) -> Iterator[tuple[Ints, Floats]]:
        for start in range(0, len(numbers), _AT_ONCE):
            part = numbers[start : start + _AT_ONCE]
            yield part, self.table.features(part)

    def _advanced(self, vectors: Floats) -> Floats:
        self.progress.advance("building the index", len(vectors))
        return vectors


def _is_outgrown(settings: Settings, known: Treatment, count: int) -> bool:
    """Whether the mean of the collection came from too few of its pictures."""
    return bool(TREATMENTS[settings.vectors]) and count >= max(FEWEST, _GROWTH * known.fitted_on)


def _is_kept(row: Row, unread: set[str]) -> bool:
    """Whether a file could not be read now, but is what it was: FFmpeg is missing, a disk does not answer."""
    inside = row.path.rpartition("@")[0]  # the video of a frame
    return bool({row.path, inside} & unread) and row.stamp is not None and stamp(row.location) == row.stamp


def _of_sample(seen: Seen) -> dict[str, Any]:
    """The columns that may change while the picture stays the same."""
    sample = seen.sample
    told = {"path": sample.id, "location": sample.location, "stamp": seen.stamp}
    return told | {"label": sample.label, "split": sample.split, "group": sample.group} | file_facts(sample)
