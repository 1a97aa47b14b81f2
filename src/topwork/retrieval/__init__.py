"""Which of my pictures look like this one? An index of features, search in it, copies, a map, what to label next."""

from topwork.retrieval.index import Hit, Index, build_index

__all__ = ["Hit", "Index", "build_index"]
