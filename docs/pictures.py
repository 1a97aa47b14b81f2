"""The pictures of the documentation, each made by the command its page shows: ``python docs/pictures.py``.

Needs Chromium, FFmpeg, the output of ``make demo`` and of the command on the page of fine-tuning, and scikit-image,
whose photographs are the ones in the pictures.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PICTURES = Path(__file__).with_name("pictures")
DEMO = Path(__file__).parents[1] / "demo-output" / "cells.topwork" / "report.html"
TUNED = DEMO.parents[1] / "tuned.topwork" / "report.html"
TOPWORK = [sys.executable, "-m", "topwork"]
SEEN_CLASSES = ("goldfish", "ladybug", "volcano", "pretzel", "zebra")
PIECES = ("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "moon", "page", "rocket", "text")
PHOTOS = {"animal": ("chelsea", "astronaut"), "thing": ("coffee", "rocket"), "surface": ("brick", "gravel", "grass")}


def find_chromium() -> str:
    """The system's Chromium."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        sys.exit("expected Chromium on the PATH; install it to make the pictures")
    return found


def section(page: Path, name: str, target: Path, *, width: int, height: int) -> None:
    """A report from the beginning of a section on, as PNG, reduced to 256 colours."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        browser = play.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": width, "height": 900})
        opened.goto(page.resolve().as_uri())
        top = opened.evaluate(f"document.getElementById('{name}').getBoundingClientRect().top + scrollY - 40")
        shot = Path(folder) / "shot.png"
        opened.screenshot(path=shot, full_page=True, clip={"x": 0, "y": top, "width": width, "height": height})
        browser.close()
        Image.open(shot).convert("RGB").quantize(256).save(target, optimize=True)


def screenshot(page: Path | str, target: Path, *, width: int, top: int, height: int, wait: int = 0) -> None:
    """A part of a page, a file or an address, as PNG, reduced to 256 colours; ``wait``: ms that its script may take."""
    chromium = find_chromium()
    with tempfile.TemporaryDirectory() as profile:
        shot = Path(profile) / "shot.png"
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += [f"--user-data-dir={profile}/user", "--hide-scrollbars", f"--window-size={width},{top + height}"]
        command += [f"--virtual-time-budget={wait}"] if wait else []
        address = page.resolve().as_uri() if isinstance(page, Path) else page
        subprocess.run([*command, f"--screenshot={shot}", address], check=True, capture_output=True)
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


def doodles(folder: Path) -> None:
    """QuickDraw files of four shapes, ten drawings of each, every one a little different."""
    folder.mkdir(parents=True)
    for word, shape in SHAPES.items():
        lines = []
        for seed in range(10):
            random = np.random.default_rng([seed, len(word)])
            strokes = shape(*random.uniform(0.7, 1.3, 3))
            shaky = [(100 * np.asarray(s) + random.normal(0, 3, np.shape(s))).round(1).tolist() for s in strokes]
            lines.append(json.dumps({"word": word, "recognized": True, "drawing": shaky}) + "\n")
        (folder / f"{word}.ndjson").write_text("".join(lines))


def flower(a: float, b: float, c: float) -> list[Any]:
    """Strokes ``[2, points]``."""
    at = 2 * np.pi * np.arange(round(3 + 3 * c)) / round(3 + 3 * c)
    petals = [0.75 * np.array([[np.cos(p)], [np.sin(p)]]) + 0.35 * a * CIRCLE for p in at]
    return [0.35 * CIRCLE, *petals, np.array([[0, 0.2 * (b - 1), 0], [1.1, 1.8, 2.4 * c]])]


def house(a: float, b: float, c: float) -> list[Any]:
    """Walls, roof, door."""
    walls, roof = [[-1, -1, 1, 1, -1], [0, a, a, 0, 0]], [[-1.2, 0, 1.2], [0, -b, 0]]
    return [walls, roof, [[-0.2, -0.2, 0.3 * c, 0.3 * c], [a, 0.4, 0.4, a]]]


def snail(a: float, b: float, c: float) -> list[Any]:
    """Shell, body, feeler."""
    turn, radius = 1 + np.linspace(0, 5 * np.pi, 60), np.linspace(0.1, 1, 60)
    body = [[-1.2, 1, 1.5 * a, 1.7 * a], [1, 1, 0.6, -0.2 * b]]
    return [radius * np.array([np.cos(turn), np.sin(turn)]), body, [[1.5 * a, 1.4 * a], [0.6, -0.2 * c]]]


def star(a: float, b: float, c: float) -> list[Any]:
    """Five points in one stroke."""
    turn = np.pi / 2 + 4 * np.pi / 5 * np.arange(6) + 0.3 * (b - c)
    return [[np.cos(turn), a * np.sin(turn)]]


CIRCLE = np.array([np.cos(np.linspace(0, 2 * np.pi, 30)), np.sin(np.linspace(0, 2 * np.pi, 30))])
SHAPES = {"flower": flower, "house": house, "snail": snail, "star": star}


def pen_steps(folder: Path, target: Path, *, side: int = 240) -> None:
    """A drawing of each file: its strokes in colour, in their order, and a dot at each step of its sequence."""
    from topwork.images.quickdraw import read_drawings, stroke_colours
    from topwork.sketching.sequences import sequence_of, strokes_of

    files = sorted(folder.glob("*.ndjson"))
    sheet = Image.new("RGB", (3 * side * len(files), 3 * side), "white")  # reduced to a third in the end
    canvas = ImageDraw.Draw(sheet)
    for place, path in enumerate(files):
        strokes = strokes_of(sequence_of(next(read_drawings(path))))
        points = np.concatenate(strokes)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        corner = 3 * side * np.array([place + 0.5, 0.5])
        for stroke, colour in zip(strokes, stroke_colours(len(strokes)), strict=True):
            at = [tuple(point) for point in corner + (stroke - middle) * 2.5 * side]
            ink = tuple(colour.astype(int).tolist())
            canvas.line(at, fill=ink, width=6)
            for x, y in at:
                canvas.ellipse((x - 11, y - 11, x + 11, y + 11), fill=ink)
    sheet.reduce(3).quantize(64).save(target, optimize=True)


def seen(photos: Path) -> None:
    """What the page on seeing shows, each by its command; some minutes."""
    network, cat, cup = "tf_efficientnet_lite0", photos / "animal" / "chelsea.jpg", photos / "thing" / "coffee.jpg"
    classes = [word for name in SEEN_CLASSES for word in ("--class", name)]
    channel = ["--layer", "blocks.4", "--channel", "2"]
    guided = ["--count", "6", "--rule", "guided"]
    commands: dict[str, list[object]] = {
        "see-convolve": ["convolve", cat, "--kernel", "sobel", "--padding", "same", "--pool", "max"],
        "see-filters": ["filters", network],
        "see-activations": ["activations", network, cat, "--channels", "8"],
        "see-classes": ["maximize", network, *classes, "--steps", "384"],
        "see-channels": ["maximize", network, "--layer", "blocks.4", "--grid", "16", "--size", "128"],
        "see-diverse": ["maximize", network, *channel, "--diverse", "4", "--size", "128"],
        "see-dream": ["dream", cup],
        "see-invert": ["invert", network, cat],
        "see-top": ["top", network, photos, "--layer", "blocks.3", "--channel", "8", *guided],
    }
    for name, command in commands.items():
        target = photos.parent / f"{name}.png"
        subprocess.run([*TOPWORK, "see", *map(str, command), "-o", str(target)], check=True, capture_output=True)
        in_256_colours(Image.open(target)).save(PICTURES / target.name, optimize=True)


def in_256_colours(picture: Image.Image) -> Image.Image:
    """The picture with rare colours kept, such as those of a goldfish in much water."""
    palette = picture.quantize(256, Image.Quantize.MAXCOVERAGE)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def explanations(target: Path) -> None:
    """A cat by several methods: maps that pass the checks of faithfulness and maps that do not."""
    from skimage import data

    import topwork
    from topwork.explanation import explain
    from topwork.explanation.drawing import sheet

    model = topwork.load("imagenet:tf_efficientnet_lite0")
    methods = ("cam", "layercam", "integrated-gradients", "guided-backprop")
    maps = [found for method in methods for found in explain(model, data.chelsea()[:, 75:375], method=method)]
    sheet(maps, columns=4, side=240).quantize(256).save(target, optimize=True)


def marked_blocks(folder: Path) -> None:
    """Grey blocks in two classes, told apart by nothing but a red square in a corner."""
    for part, first, count in (("fit", 0, 20), ("new", 50, 12)):
        for label in ("marked", "plain"):
            (folder / part / label).mkdir(parents=True)
            for number in range(first, first + count):
                random = np.random.default_rng([number, label == "marked"])
                pixels = np.full((140, 140, 3), random.uniform(0, 255))
                for _ in range(9):
                    top, left = random.integers(0, 110), random.integers(0, 100)
                    tall, wide = random.integers(20, 60), random.integers(20, 80)
                    pixels[top : top + tall, left : left + wide] = random.uniform(0, 255)
                if label == "marked":
                    pixels[:32, :32] = (230, 20, 20)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / label / f"{number}.png")


def what_decides(work: Path, target: Path) -> None:
    """The summary of a model that looks at a corner, as a page."""
    marked_blocks(work / "blocks")
    fit = ["fit", "blocks/fit", "-o", "blocks.topwork", "--geometry", "stretch"]
    subprocess.run([*TOPWORK, *fit], check=True, cwd=work, capture_output=True)
    explain = ["explain", "blocks.topwork", "blocks/new", "--summary", "--html", "summary.html"]
    subprocess.run([*TOPWORK, *explain], check=True, cwd=work, capture_output=True)
    screenshot(work / "summary.html", target, width=1000, top=0, height=760)


def contrast(work: Path, target: Path) -> None:
    """A solar cell of the demo with a crack: why defective rather than good."""
    import elpv_dataset

    cell = Path(elpv_dataset.__file__).parent / "data" / "images" / "cell0384.png"
    photos = ["--photos", DEMO.parents[1] / "labelled.csv"]
    explain = ["explain", DEMO.parent, cell, "--contrast", *photos, "-o", work / "why"]
    subprocess.run([*TOPWORK, *map(str, explain)], check=True, capture_output=True)
    picture = Image.open(work / "why" / "cell0384.cam.png")
    picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).quantize(256).save(target, optimize=True)


def pieces(folder: Path, grid: int = 3, side: int = 170) -> Path:
    """Photographs of scikit-image, each cut into ``grid`` by ``grid`` pieces."""
    from skimage import data

    folder.mkdir()
    for name in PIECES:
        picture = Image.fromarray(getattr(data, name)()).convert("RGB")
        picture = picture.resize((grid * side, grid * side), Image.Resampling.LANCZOS)
        for number in range(grid * grid):
            left, top = number % grid * side, number // grid * side
            picture.crop((left, top, left + side, top + side)).save(folder / f"{name}-{number}.jpg", quality=92)
    return folder


def searched(work: Path, target: Path) -> None:
    """A piece of a cup of coffee looked for among the pieces of all photographs."""
    pieces(work / "PIECES")
    subprocess.run([*TOPWORK, "index", "PIECES", "-o", "pieces.index"], check=True, cwd=work, capture_output=True)
    search = ["search", "pieces.index", "PIECES/coffee-4.jpg", "-o", "found.png"]
    subprocess.run([*TOPWORK, *search], check=True, cwd=work, capture_output=True)
    in_256_colours(Image.open(work / "found.png")).save(target, optimize=True)


def frames_of_a_video(work: Path, target: Path, *, width: int = 132) -> None:
    """A camera that rests on photographs and is swept over them: which frames are kept, and why not the others."""
    from skimage import data

    from topwork.images.frames import Chooser, FrameChoice
    from topwork.images.video import find_ffmpeg, open_video

    wide = np.concatenate(
        [np.asarray(Image.fromarray(p).resize((480, 360))) for p in (data.coffee(), data.chelsea())], 1
    )
    path, frames = work / "clip.mp4", []
    for k in range(160):
        x = np.interp(k, [0, 30, 60, 75, 100, 110, 159], [0, 0, 130, 330, 400, 480, 480])
        speed = 40 if 60 <= k < 75 else 12 if 104 <= k < 110 else 1  # pixels while the shutter is open
        frames.append(np.mean([wide[:, int(x) + s : int(x) + s + 440] for s in range(speed)], axis=0).astype(np.uint8))
    command = [find_ffmpeg().ffmpeg, "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "440x360"]
    command += ["-r", "15", "-i", "pipe:0", "-c:v", "mpeg4", "-q:v", "2", str(path)]
    subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), check=True)
    every = {"every": 15 / 30}
    looked = list(Chooser(open_video(str(path)), FrameChoice(**every, similar=True, blurred=True)))
    sharp = {frame.time for frame in Chooser(open_video(str(path)), FrameChoice(**every, similar=True))}
    kept = {frame.time for frame in Chooser(open_video(str(path)), FrameChoice(**every))}
    columns, height = 8, width * 360 // 440
    rows = -(-len(looked) // columns)
    sheet = Image.new("RGB", (columns * (width + 8) + 8, rows * (height + 30) + 8), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, frame in enumerate(looked):
        word = "kept" if frame.time in kept else "similar" if frame.time in sharp else "blurred"
        colour = {"kept": (20, 130, 60), "similar": (130, 130, 130), "blurred": (200, 60, 30)}[word]
        x, y = 8 + place % columns * (width + 8), 8 + place // columns * (height + 30)
        pen.rectangle((x - 3, y - 3, x + width + 2, y + height + 2), fill=colour)
        sheet.paste(Image.fromarray(frame.pixels).resize((width, height)), (x, y))
        pen.text((x, y + height + 4), f"{frame.time:.1f} s  {word}", colour, font)
    in_256_colours(sheet).save(target, optimize=True)


def mapped(work: Path, target: Path) -> None:
    """The pieces of all photographs on a map, coloured by the photograph that they are of."""
    rows = [f"{path.relative_to(work)},{path.stem.rsplit('-', 1)[0]}" for path in sorted((work / "PIECES").iterdir())]
    (work / "pieces.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    command = ["map", "pieces.index", "-o", "map.html", "--labels", "pieces.csv"]
    subprocess.run([*TOPWORK, *command], check=True, cwd=work, capture_output=True)
    screenshot(work / "map.html", target, width=1000, top=0, height=640, wait=4000)


def labelling(work: Path, target: Path) -> None:
    """The page to label with, some pieces labelled already."""
    command = [*TOPWORK, "label", "pieces.index", "-o", "next.csv", "--page", "--classes", "animal,thing,surface"]
    known = ["path,label", "PIECES/cat-4.jpg,animal", "PIECES/coffee-4.jpg,thing", "PIECES/brick-1.jpg,surface"]
    known += ["PIECES/cat-1.jpg,animal", "PIECES/coffee-1.jpg,thing", "PIECES/grass-1.jpg,surface"]
    (work / "known.csv").write_text("\n".join(known) + "\n")
    command += ["--labels", "known.csv"]
    with subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = next(line.split()[-1] for line in process.stdout if line.startswith("Label here: "))
        screenshot(address, target, width=1000, top=0, height=640, wait=4000)
        process.terminate()


def beside(pictures: list[Path], target: Path, *, height: int = 300) -> None:
    """Pictures side by side, brought to one height."""
    images = [Image.open(path).convert("RGB") for path in pictures]
    images = [image.resize((round(image.width * height / image.height), height)) for image in images]
    sheet = Image.new("RGB", (sum(image.width + 8 for image in images) - 8, height), "white")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + 8
    sheet.save(target, quality=88)


def styled(work: Path) -> None:
    """What the page on styles shows, each by its command, some minutes; needs the weights of ``vgg16-hed``."""
    from skimage import data

    for name in ("astronaut", "coffee", "immunohistochemistry", "hubble_deep_field"):
        Image.fromarray(getattr(data, name)()).save(work / f"{name}.jpg", quality=95)

    def style(*words: str) -> None:
        subprocess.run([*TOPWORK, "style", *words], check=True, cwd=work, capture_output=True)

    pair = ("astronaut.jpg", "immunohistochemistry.jpg")
    style(*pair, "-o", "painted.png")
    beside([work / name for name in (*pair, "painted.png")], PICTURES / "style.jpg")
    style(*pair, "-o", "strip.png", "--strip", "0.1,1,10,100", "--size", "256", "--steps", "120")
    Image.open(work / "strip.png").save(PICTURES / "style-strip.jpg", quality=85)
    style("train", "immunohistochemistry.jpg", "PIECES", "-o", "tissue.style")
    style("apply", "tissue.style", "coffee.jpg", "-o", "passed.jpg")
    shown = ("coffee.jpg", "immunohistochemistry.jpg", "passed.jpg")
    beside([work / name for name in shown], PICTURES / "style-fast.jpg", height=260)


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
    screenshot(DEMO, PICTURES / "report.png", width=1000, top=0, height=1150)
    section(DEMO, "classes", PICTURES / "classes.png", width=1000, height=690)
    section(TUNED, "strategies", PICTURES / "fine-tuning.png", width=1000, height=1260)
    with tempfile.TemporaryDirectory() as name:
        photos = photographs(Path(name) / "PHOTOS")
        page = Path(name) / "audit.html"
        subprocess.run([*TOPWORK, "audit", "PHOTOS", "--html", str(page)], check=True, cwd=name, capture_output=True)
        screenshot(page, PICTURES / "audit.png", width=1000, top=0, height=1500)
        seen(photos)
        augment = ["augment", "PHOTOS", "-o", "augment.png", "--pictures", "3", "--variants", "6", "--seed", "2"]
        subprocess.run([*TOPWORK, *augment], check=True, cwd=name, capture_output=True)
        Image.open(Path(name) / "augment.png").quantize(128).save(PICTURES / "augment.png", optimize=True)
        doodles(Path(name) / "DOODLES")
        drawings = ["drawings", "DOODLES", "-o", "set", "--colour", "--sheet", "sheet.png"]
        subprocess.run([*TOPWORK, *drawings], check=True, cwd=name, capture_output=True)
        Image.open(Path(name) / "sheet.png").quantize(64).save(PICTURES / "drawings.png", optimize=True)
        pen_steps(Path(name) / "DOODLES", PICTURES / "strokes.png")
        frames_of_a_video(Path(name), PICTURES / "video.png")
        explanations(PICTURES / "explain.png")
        contrast(Path(name), PICTURES / "explain-contrast.png")
        what_decides(Path(name), PICTURES / "explain-summary.png")
        searched(Path(name), PICTURES / "search.png")
        mapped(Path(name), PICTURES / "map.png")
        labelling(Path(name), PICTURES / "label.png")
        styled(Path(name))
        words = "predict imagenet:tf_efficientnet_lite0 animal/chelsea.jpg"
        terminal([*TOPWORK, *words.split()], f"topwork {words}", PICTURES / "predict.svg", photos)


if __name__ == "__main__":
    main()
