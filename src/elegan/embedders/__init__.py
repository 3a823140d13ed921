"""Embedders: fixed networks that turn samples into features, to measure them by. Each names itself by its hash.

    embedder = open_embedder("digits-cnn", shape=(1, 28, 28))
    features, probabilities = embedder.embed(images)  # uint8 (N, 1, 28, 28) -> float32 (N, 128), (N, 10)

`names` and `natural` import no torch.
"""

from pathlib import Path

from elegan.embedders.contract import Embedded as Embedded
from elegan.embedders.contract import Embedder as Embedder
from elegan.errors import OptionError, nearest
from elegan.spec import Spec

NAMES = ("digits-cnn", "fashion-cnn", "efflite0", "vgg16", "inception", "pixels")
OWN = {  # data -> the embedder made for it, and the shape of its samples
    "digits": ("digits-cnn", (1, 28, 28)),
    "stacked-digits": ("digits-cnn", (3, 28, 28)),
    "fashion": ("fashion-cnn", (1, 28, 28)),
}


def names() -> tuple[str, ...]:
    """What `open_embedder` knows by name; `inception` is followed by the file of its weights, `inception:FILE`."""
    return NAMES


def natural(source_name: str, spec: Spec) -> str:
    """The embedder that suits data best: the one made for it; for other images efflite0 if installed; else `pixels`."""
    own, shape = OWN.get(source_name, ("", ()))
    if own and spec.shape == shape:
        return own
    if spec.kind == "image" and spec.shape[0] in (1, 3):
        from elegan.embedders import weights

        return "efflite0" if weights.packaged(*weights.EFFLITE0) else "pixels"
    return "pixels"


def open_embedder(name_or_path: str, *, shape: tuple[int, ...]) -> Embedder:
    """The embedder of that name, or in that file (.pt2, .onnx), for samples of a shape: (C, H, W), or (D,) for vectors.

    Errors: `OptionError` if there is none of that name, or it does not take samples of that shape; `CheckpointError` if
    its weights are missing or damaged: where they come from, and what works without.
    """
    kind, _, path = name_or_path.partition(":")
    if kind == "inception" and not path:
        raise OptionError("inception needs the file of its weights: --embedder inception:/path/to/FILE")
    if path and kind != "inception":
        kind = name_or_path  # a colon in the path of a file
    match kind:
        case "pixels" | "values":
            from elegan.embedders.pixels import Pixels

            return Pixels(shape)
        case "digits-cnn":
            from elegan.embedders import digits_cnn

            return digits_cnn.open_for(shape)
        case "fashion-cnn":
            from elegan.embedders import fashion_cnn

            return fashion_cnn.open_for(shape)
        case "efflite0":
            from elegan.embedders.efflite0 import EffLite0

            return EffLite0(shape)
        case "vgg16":
            from elegan.embedders.vgg16 import Vgg16

            return Vgg16(shape)
        case "inception":
            from elegan.embedders.inception import InceptionFile

            return InceptionFile(Path(path).expanduser(), shape)
    if kind.endswith((".pt2", ".onnx")):
        from elegan.embedders.exported import Exported

        return Exported(Path(kind).expanduser(), shape)
    raise OptionError(f"no embedder {kind!r}.{nearest(kind, NAMES)} A network of one's own is a .pt2 or .onnx file")
