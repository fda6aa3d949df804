"""A triangle moves until it matches a picture. Run: python examples/triangle.py"""

import pathlib

from tqdm import trange

import taichi_dr as dr


def main(steps=120, out="out/triangle"):
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dr.init()

    faces = dr.array([[0, 1, 2]])
    colors = dr.array([[[1.0, 0.2, 0.1], [0.2, 1.0, 0.3], [0.1, 0.4, 1.0]]])  # red, green and blue corners
    goal = dr.array([[[-0.6, -0.5, 2.0], [0.7, -0.3, 2.0], [0.1, 0.7, 2.0]]])  # x right, y up, depth
    screen = dr.array([[[-0.9, 0.3, 2.0], [-0.2, -0.8, 2.0], [0.5, 0.2, 2.0]]])

    target = dr.soft_rasterize(goal, faces, colors, size=128, sigma=1e-3)
    dr.pictures.save(folder / "target.png", target)

    loss = dr.scalar()
    adam = dr.optim.Adam([screen], lr=0.02)
    frames = []
    for _ in trange(steps):
        with dr.Tape(loss):
            image = dr.soft_rasterize(screen, faces, colors, size=128, sigma=1e-3)
            dr.losses.mse(image, target, loss)
        adam.step()
        frames.append(dr.pictures.to_uint8(image))
    dr.pictures.save_gif(folder / "triangle.gif", frames)
    print(f"loss {loss[None]:.2e}; see {folder}/triangle.gif")
    return loss[None]


if __name__ == "__main__":
    main()
