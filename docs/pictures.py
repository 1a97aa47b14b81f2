"""The pictures of the documentation, each made by the command its page shows: ``python docs/pictures.py``.

Needs Chromium, the output of ``make demo``, and scikit-image, whose photographs are the ones in the pictures.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageFilter

PICTURES = Path(__file__).with_name("pictures")
DEMO = Path(__file__).parents[1] / "demo-output" / "cells.topwork" / "report.html"
TOPWORK = [sys.executable, "-m", "topwork"]
PHOTOS = {"animal": ("chelsea", "astronaut"), "thing": ("coffee", "rocket"), "surface": ("brick", "gravel", "grass")}


def screenshot(page: Path, target: Path, *, width: int, top: int, height: int) -> None:
    """A part of a page as PNG, reduced to 256 colours."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("expected Chromium on the PATH; install it to make the pictures")
    with tempfile.TemporaryDirectory() as profile:
        shot = Path(profile) / "shot.png"
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += [f"--user-data-dir={profile}/user", "--hide-scrollbars", f"--window-size={width},{top + height}"]
        subprocess.run([*command, f"--screenshot={shot}", page.resolve().as_uri()], check=True, capture_output=True)
        part = Image.open(shot).convert("RGB").crop((0, top, width, top + height))
        part.quantize(256).save(target, optimize=True)


def photographs(folder: Path) -> Path:
    """Class folders with photographs of scikit-image, and some faults: copies, blur, darkness, a broken file."""
    from skimage import data

    for label, names in PHOTOS.items():
        (folder / label).mkdir(parents=True)
        for name in names:
            Image.fromarray(getattr(data, name)()).convert("RGB").save(folder / label / f"{name}.jpg", quality=92)
    cat = Image.open(folder / "animal" / "chelsea.jpg")
    cat.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "thing" / "cat_mirrored.jpg", quality=60)
    shutil.copy(folder / "thing" / "coffee.jpg", folder / "thing" / "coffee (1).jpg")
    coffee = Image.open(folder / "thing" / "coffee.jpg")
    coffee.filter(ImageFilter.GaussianBlur(9)).save(folder / "thing" / "unsharp.jpg")
    Image.open(folder / "thing" / "rocket.jpg").point(lambda v: v // 12).save(folder / "thing" / "night.jpg")
    (folder / "animal" / "broken.jpg").write_bytes((folder / "animal" / "astronaut.jpg").read_bytes()[:9000])
    return folder


def terminal(command: list[str], title: str, target: Path, folder: Path) -> None:
    """What a command prints at 80 columns, as SVG."""
    from rich.console import Console
    from rich.text import Text

    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=folder)
    console = Console(record=True, width=80, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(Text(f"$ {title}\n{done.stdout}"))
    console.save_svg(str(target), title="topwork")


def main() -> None:
    """Make them all."""
    PICTURES.mkdir(exist_ok=True)
    screenshot(DEMO, PICTURES / "report.png", width=1000, top=0, height=640)
    screenshot(DEMO, PICTURES / "classes.png", width=1000, top=640, height=880)
    with tempfile.TemporaryDirectory() as name:
        photos = photographs(Path(name) / "PHOTOS")
        page = Path(name) / "audit.html"
        subprocess.run([*TOPWORK, "audit", "PHOTOS", "--html", str(page)], check=True, cwd=name, capture_output=True)
        screenshot(page, PICTURES / "audit.png", width=1000, top=0, height=1500)
        words = "predict imagenet:tf_efficientnet_lite0 animal/chelsea.jpg"
        terminal([*TOPWORK, *words.split()], f"topwork {words}", PICTURES / "predict.svg", photos)


if __name__ == "__main__":
    main()
