"""topwork: put a new top on a pretrained CNN.

>>> import topwork
>>> sorted(topwork.__all__)[:4]
['BackboneError', 'CacheError', 'Explanation', 'FastStyle']
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# ONNX Runtime 1.32 has code to report its use to its maker when it is imported. Who wants that sets the variable.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

_PUBLIC = {
    "fit": "topwork.pipeline",
    "Fit": "topwork.pipeline",
    "load": "topwork.model",
    "Model": "topwork.model",
    "Prediction": "topwork.model",
    "evaluate": "topwork.held_out",
    "audit": "topwork.auditing",
    "ImageSource": "topwork.images",
    "explain": "topwork.explanation",
    "Explanation": "topwork.explanation",
    "summary": "topwork.backbones.summary",
    "Summary": "topwork.backbones.summary",
    "compare_strokes": "topwork.sketching.comparison",
    "build_index": "topwork.retrieval",
    "Index": "topwork.retrieval",
    "Hit": "topwork.retrieval",
    "FastStyle": "topwork.style.fast_style",
    "Recipe": "topwork.recipe",
    "Training": "topwork.recipe",
    "TopworkError": "topwork.errors",
    "UsageError": "topwork.errors",
    "MissingExtraError": "topwork.errors",
    "SourceError": "topwork.errors",
    "ImageError": "topwork.errors",
    "BackboneError": "topwork.errors",
    "CacheError": "topwork.errors",
    "TrainingError": "topwork.errors",
    "ModelError": "topwork.errors",
}

_GUESSES = {
    "train": "fit",
    "predict": "load(MODEL).predict(pictures)",
    "classify": "load(MODEL).predict(pictures)",
    "search": "Index.open(FOLDER)",
    "load_model": "load",
    "open": "load",
    "test": "evaluate",
}
"""Names that people try, and what they want."""

__all__ = list(_PUBLIC)

if TYPE_CHECKING:
    from topwork.auditing import audit as audit
    from topwork.backbones.summary import Summary as Summary
    from topwork.backbones.summary import summary as summary
    from topwork.errors import BackboneError as BackboneError
    from topwork.errors import CacheError as CacheError
    from topwork.errors import ImageError as ImageError
    from topwork.errors import MissingExtraError as MissingExtraError
    from topwork.errors import ModelError as ModelError
    from topwork.errors import SourceError as SourceError
    from topwork.errors import TopworkError as TopworkError
    from topwork.errors import TrainingError as TrainingError
    from topwork.errors import UsageError as UsageError
    from topwork.explanation import Explanation as Explanation
    from topwork.explanation import explain as explain
    from topwork.held_out import evaluate as evaluate
    from topwork.images import ImageSource as ImageSource
    from topwork.model import Model as Model
    from topwork.model import Prediction as Prediction
    from topwork.model import load as load
    from topwork.pipeline import Fit as Fit
    from topwork.pipeline import fit as fit
    from topwork.recipe import Recipe as Recipe
    from topwork.recipe import Training as Training
    from topwork.retrieval import Hit as Hit
    from topwork.retrieval import Index as Index
    from topwork.retrieval import build_index as build_index
    from topwork.sketching.comparison import compare_strokes as compare_strokes
    from topwork.style.fast_style import FastStyle as FastStyle


def __getattr__(name: str) -> Any:
    """Public names are loaded on first use, so that ``import topwork`` costs nothing."""
    if name not in _PUBLIC:
        instead = f"; use topwork.{_GUESSES[name]}" if name in _GUESSES else ""
        raise AttributeError(f"module 'topwork' has no attribute {name!r}{instead}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
