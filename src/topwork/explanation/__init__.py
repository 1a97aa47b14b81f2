"""Why this answer? Maps of what in a picture speaks for a class, each with a measurement of how far to believe it.

::

    network       the classifier of model.onnx from the square input on: run, cut, shuffled
    methods       the table of methods; those that need no gradient: class activation map, occlusion
    gradients     those that need one, on PyTorch; rectifiers: the rules of guided backpropagation and deconvnet
    faithfulness  deletion, insertion, and whether a map depends on the weights
    explaining    explain(model, images)
    drawing       overlays, sheets and files of raw values
"""

from topwork.explanation.explaining import Explanation, explain, explain_each
from topwork.explanation.faithfulness import Faithfulness

__all__ = ["Explanation", "Faithfulness", "explain", "explain_each"]
