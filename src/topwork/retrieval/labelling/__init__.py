"""Labelling: which pictures next, the list of them, a local page to label with."""

from topwork.retrieval.labelling.choosing import Choice, choose
from topwork.retrieval.labelling.worklist import Item, Worklist

__all__ = ["Choice", "Item", "Worklist", "choose"]
