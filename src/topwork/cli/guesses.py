"""Names of commands that people guess, and what they are called here, or that they do not exist."""

import difflib
from typing import Any

from typer.core import TyperGroup

from topwork.errors import UsageError

_FINE_TUNE = "fit PHOTOS --strategy top"
_SYNONYMS = {
    "fit": ("train", "training", "learn", "teach", "create", "build", "make", "new", "retrain", "transfer-learn"),
    _FINE_TUNE: ("finetune", "fine-tune", "tune"),
    "evaluate": ("eval", "test", "score", "measure", "validate", "val", "benchmark", "accuracy"),
    "predict": ("classify", "infer", "inference", "run", "apply", "ask", "tag", "recognize", "recognise"),
    "audit": ("check", "inspect", "lint", "clean", "doctor", "analyze", "analyse", "stats"),
    "duplicates": ("dedupe", "dedup", "deduplicate", "duplicate", "dupes", "dups"),
    "search": ("find", "similar", "query", "retrieve", "lookup"),
    "index": ("embed", "embeddings", "features", "extract"),
    "map": ("umap", "tsne", "t-sne", "pca", "plot", "cluster"),
    "label": ("annotate", "annotation", "labels", "labelling", "labeling"),
    "explain": ("gradcam", "grad-cam", "cam", "heatmap", "heatmaps", "saliency", "why", "interpret", "attribute"),
    "see": ("visualize", "visualise", "show", "view", "filters", "activations", "look"),
    "see dream": ("dream", "deepdream", "deep-dream"),
    "style": ("stylize", "stylise", "paint", "style-transfer", "nst"),
    "report": ("results", "open", "html"),
    "backbones": ("models", "networks", "zoo", "architectures", "list", "ls"),
    "summary": ("info", "describe", "layers"),
    "augment": ("augmentation", "augmentations", "aug"),
    "frames": ("video", "videos", "ffmpeg"),
    "drawings": ("quickdraw", "sketches"),
    "strokes": ("sketch",),
    "weights pull": ("download", "pull", "fetch", "install"),
    "cache clear": ("clear", "reset", "purge"),
    "--version": ("version",),
    "--help": ("help", "usage", "commands"),
}
_FOUND = {guess: name for name, guesses in _SYNONYMS.items() for guess in guesses}

_ONNX = "the model folder that `topwork fit -o` writes holds model.onnx, which ONNX Runtime runs without topwork"
_PAGE = "`topwork predict` answers on the command line, `topwork.load` in Python"
_MISSING = {
    **dict.fromkeys(
        ("export", "convert", "onnx", "deploy", "package"), f"there is no export to other formats yet; {_ONNX}"
    ),
    **dict.fromkeys(("tflite", "coreml", "openvino", "tensorrt"), f"there is no export to other formats yet; {_ONNX}"),
    **dict.fromkeys(("serve", "server", "api", "rest"), f"there is no server yet; {_PAGE}"),
    **dict.fromkeys(("app", "ui", "gui", "web", "webui", "demo"), f"there is no page to drop pictures on yet; {_PAGE}"),
    **dict.fromkeys(("detect", "detection", "segment", "count"), "topwork only classifies whole pictures yet"),
}


def advice(name: str, names: list[str]) -> str | None:
    """What to say to somebody who asked for a command that does not exist; None where nothing comes to mind.

    >>> advice("train", ["fit", "predict"]), advice("predit", ["fit", "predict"])
    ('did you mean `topwork fit`?', 'did you mean `topwork predict`?')
    >>> advice("serve", [])
    'there is no server yet; `topwork predict` answers on the command line, `topwork.load` in Python'
    """
    guess = name.lower().replace("_", "-")
    if guess in names:
        return f"did you mean `topwork {guess}`?"
    if guess in _MISSING:
        return _MISSING[guess]
    if guess in _FOUND:
        return f"did you mean `topwork {_FOUND[guess]}`?"
    known = [*names, *_FOUND]
    close = [_FOUND.get(each, each) for each in difflib.get_close_matches(guess, known, n=2, cutoff=0.7)]
    return f"did you mean `topwork {'` or `topwork '.join(dict.fromkeys(close))}`?" if close else None


class Commands(TyperGroup):
    """The commands, of which a wrong name is answered with the right one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            found = advice(args[0], list(self.commands))
            raise UsageError(f"there is no command {args[0]!r}: {found or 'see `topwork --help` for those there are'}")
        return super().resolve_command(ctx, args)


class Subcommands(TyperGroup):
    """The commands below one, of which a wrong name is answered with the closest one, or with all."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        from topwork.registry import closest

        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise UsageError(f"there is no `{ctx.command_path} {args[0]}`: {closest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)
