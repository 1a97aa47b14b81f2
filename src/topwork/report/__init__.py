"""Reports a person can read: one self-contained HTML file from the facts of a fit or an audit."""

from topwork.report.html import render_audit, render_fit
from topwork.report.pictures import Thumb, overlay
from topwork.report.shown import fit_pictures

__all__ = ["Thumb", "fit_pictures", "overlay", "render_audit", "render_fit"]
