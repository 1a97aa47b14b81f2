"""Reports a person can read: one self-contained HTML file from the facts of a fit or an audit, or of pictures."""

from topwork.report.evaluation import evaluation_pictures
from topwork.report.gallery import Card, Chapter, Figure, render_gallery
from topwork.report.html import render_audit, render_evaluation, render_fit
from topwork.report.pictures import Thumb
from topwork.report.shown import fit_pictures

__all__ = [
    "Card",
    "Chapter",
    "Figure",
    "Thumb",
    "evaluation_pictures",
    "fit_pictures",
    "render_audit",
    "render_evaluation",
    "render_fit",
    "render_gallery",
]
