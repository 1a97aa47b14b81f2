"""Why this answer? Maps of what in a picture speaks for a class, each with a measurement of how far to believe it.

::

    network       the classifier of model.onnx from the square input on: run, cut, shuffled
    methods       the table of methods; those that need no gradient: class activation map, occlusion
    gradients     those that need one, on PyTorch; rectifiers: the rules of guided backpropagation and deconvnet
    nearest       the training pictures that are most like a picture
    faithfulness  deletion, insertion, and whether a map depends on the weights
    explaining    explain(model, images)
    composites    pictures put together from two: what decides between classes; summary: of a set of pictures
    drawing       overlays, sheets and files of raw values; summary_drawing: of a summary; page: both as HTML
"""

from topwork.explanation.explaining import Explanation, Question, explain, explain_each, of_prediction
from topwork.explanation.faithfulness import Faithfulness
from topwork.explanation.nearest import Neighbour

__all__ = ["Explanation", "Faithfulness", "Neighbour", "Question", "explain", "explain_each", "of_prediction"]
