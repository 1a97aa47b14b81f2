"""Pictures: where they are, how they are decoded, how they are split."""

from topwork.images.decode import DecodePolicy, Picture, decode, to_pixels
from topwork.images.sample import Excluded, Sample
from topwork.images.source import ImageSource
from topwork.images.split import choose_folds, holdout, stratified_group_folds, stratified_sample

__all__ = [
    "DecodePolicy",
    "Excluded",
    "ImageSource",
    "Picture",
    "Sample",
    "choose_folds",
    "decode",
    "holdout",
    "stratified_group_folds",
    "stratified_sample",
    "to_pixels",
]
