"""What the fit of a face leaves on disk while it goes on: its state, and loss curve | squared difference | render as pictures and a page."""

import io
import re

import imageio.v3 as iio
import matplotlib
import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tqdm import tqdm

from . import pictures

GAMMA = 2.2  # the fit works with light; pictures are taken to this power, and back to be looked at
# The player's page asks for icons of another site; these signs take their place.
SIGNS = {
    "minus": "\u2212", "plus": "+", "fast-backward": "\u00ab", "fast-forward": "\u00bb", "step-backward": "\u2039", "step-forward": "\u203a",
    "play": "\u25b8", "pause": "\u2016", "flip-horizontal": "", "play.fa-flip-horizontal": "\u25c2",
}  # fmt: skip


class Diary:
    """The state of the fit on disk and its pictures: loss curve | squared difference | render, every tenth step."""

    def __init__(self, folder, picture, steps, every=10, progress=True):
        self.folder, self.picture, self.every = folder, picture, every
        self.losses, self.shown, self.faces, self.best = [], [], None, 0
        self.bar = tqdm(total=steps, desc="fit", leave=False, disable=not progress)
        self.figure = Figure(figsize=(10.5, 3.6), layout="constrained")
        FigureCanvasAgg(self.figure)
        self.curve, *axes = self.figure.subplots(1, 3)
        (self.line,) = self.curve.semilogy([], [])
        self.curve.set(xlabel="step", xlim=(0, steps), title="mean squared error")
        nothing = np.zeros_like(picture.colors)
        self.panels = [axes[0].imshow(nothing[..., 0], vmin=0, vmax=0.03, cmap="magma"), axes[1].imshow(nothing)]
        for a, title in zip(axes, ("squared difference", "render"), strict=True):
            a.set(title=title, xticks=[], yticks=[])

    def __call__(self, faces, best, loss, image, shrink):
        self.faces, self.best = faces, best
        self.losses.append(float(loss))
        self.bar.set_postfix(mse=f"{loss:.5f}", refresh=False)
        self.bar.update()
        if (len(self.losses) - 1) % self.every == 0:
            self.show(image, shrink)
            self.save_state()
            self.figure.savefig(self.folder / "progress.png", dpi=80)

    def show(self, image, shrink):
        rows, columns = (np.minimum(np.arange(n) // shrink, m - 1) for n, m in zip(self.picture.colors.shape, image.shape[:2], strict=False))
        self.shown.append((len(self.losses), image[rows[:, None], columns]))
        self.draw(len(self.shown) - 1)

    def draw(self, k):
        count, image = self.shown[k]
        self.line.set_data(range(count), self.losses[:count])
        self.curve.set_ylim(0.8 * min(self.losses[:count]), 1.2 * max(self.losses[:count]))
        self.panels[0].set_data(((image - self.picture.colors) ** 2).mean(axis=-1))
        self.panels[1].set_data(image.clip(0, 1) ** (1 / GAMMA))
        return [self.line, *self.panels]

    def save_state(self):
        values = self.faces.values(slice(self.best, self.best + 1))
        part = self.folder / "state.part.npz"
        np.savez(part, **values)
        part.replace(self.folder / "state.npz")  # a whole file, whenever the fit is stopped

    def finish(self):
        """GIF and a page that holds its pictures and needs no other file."""
        self.bar.close()
        frames = []
        for k in range(len(self.shown)):
            self.draw(k)
            stream = io.BytesIO()
            self.figure.savefig(stream, format="png", dpi=80)
            frames.append(iio.imread(stream.getvalue())[..., :3])
        pictures.save_gif(self.folder / "fit.gif", frames, frames_per_second=8)
        animation = FuncAnimation(self.figure, self.draw, frames=len(self.shown), interval=120, blit=False)
        with matplotlib.rc_context({"savefig.dpi": 80, "animation.embed_limit": 100}):
            player = re.sub(r"<link[^>]*>", "", animation.to_jshtml())
        signs = "".join(f'.fa-{name}::before {{ content: "{sign}"; font-style: normal }}' for name, sign in SIGNS.items())
        page = f'<!doctype html><meta charset="utf-8"><title>A face from one picture</title><style>{signs}</style>{player}'
        (self.folder / "fit.html").write_text(page, encoding="utf-8")
