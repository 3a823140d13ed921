"""Runs the graph in a `torch.export` file (.pt2), and without `torch.export.load`, which may run code that it carries.

That function unpickles, parses expressions by `eval`, and looks operators up by dotted names anywhere below `torch`.
Here the file is a list of operators, of which a fixed set is known, over tensors read as plain bytes; anything else in
it is refused, or, as with the example inputs, left unread.
"""

import io
import json
import operator
import re
import zipfile
from typing import Any

import torch
from torch import Tensor

OPERATORS = """
    conv1d conv2d convolution linear matmul mm bmm addmm baddbmm einsum scaled_dot_product_attention
    batch_norm _native_batch_norm_legit_no_training layer_norm native_layer_norm group_norm instance_norm rms_norm
    relu relu6 gelu silu mish elu selu celu leaky_relu prelu hardtanh hardswish hardsigmoid sigmoid tanh softplus
    softmax _softmax log_softmax _log_softmax logsumexp dropout feature_dropout alpha_dropout
    avg_pool2d max_pool2d max_pool2d_with_indices adaptive_avg_pool2d adaptive_max_pool2d _adaptive_avg_pool2d pad
    constant_pad_nd reflection_pad2d replication_pad2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa pixel_shuffle pixel_unshuffle unfold
    add sub rsub mul div neg abs pow sqrt rsqrt square reciprocal exp log erf sin cos clamp clamp_min clamp_max
    minimum maximum where floor round eq ne lt le gt ge logical_not masked_fill lerp addcmul
    sum mean amax amin max min argmax var std norm linalg_vector_norm cumsum
    view _unsafe_view reshape flatten unflatten permute transpose t numpy_T movedim expand expand_as repeat cat
    stack split split_with_sizes chunk unbind slice select narrow index index_select gather embedding unsqueeze
    squeeze roll flip clone contiguous detach detach_ alias to _to_copy type_as sym_size zeros ones full arange
    zeros_like ones_like full_like scalar_tensor lift_fresh_copy _assert_tensor_metadata
"""  # convolutions and products; normalisations; activations; pools and sizes; arithmetic; reductions; shapes
KNOWN = frozenset(OPERATORS.split())
ON_NUMBERS = {name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "getitem")}
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
PLAIN = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string")
STORED = ("parameter", "buffer", "tensor_constant")


class Graph:
    """A network of one tensor, read from the bytes of a .pt2 file and called as a function.

    `shape` is that of its input, None where it is free.
    Errors: `ValueError`, one line, if the file is damaged, or asks for more than an evaluation of known operators.
    """

    def __init__(self, content: bytes):
        members = _members(content)
        graph, signature = _model(members)
        tensors = {**_tensors(members, "data/weights/"), **_tensors(members, "data/constants/")}
        self._given: dict[str, Tensor] = {}  # name in the graph -> tensor of the file
        inputs = []
        for spec in signature["input_specs"]:
            ((kind, known),) = spec.items()
            if kind == "user_input":
                inputs.append(known["arg"]["as_tensor"]["name"])
            elif kind in STORED:
                self._given[known["arg"]["name"]] = tensors[known[f"{kind}_name"]]
            else:
                raise ValueError(f"it wants an input of kind {kind}")
        if len(inputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs, not one batch of images")
        self._input = inputs[0]
        self.shape = tuple(size.get("as_int") for size in graph["tensor_values"][self._input]["sizes"])
        if any("user_output" not in spec for spec in signature["output_specs"]):
            raise ValueError("it changes its own weights: export it after .eval()")
        self._outputs = [spec["user_output"]["arg"]["as_tensor"]["name"] for spec in signature["output_specs"]]
        self._nodes = [(_known(node["target"]), node["inputs"], node["outputs"]) for node in graph["nodes"]]
        for _, arguments, _ in self._nodes:
            if any(each["name"] in ("training", "train") and each["arg"].get("as_bool") for each in arguments):
                raise ValueError("it was exported in training mode: export it after .eval()")
        self._last: dict[str, int] = {}  # value -> the last operator that reads it
        for k, (_, arguments, _) in enumerate(self._nodes):
            self._last.update(dict.fromkeys(_names([each["arg"] for each in arguments]), k))

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Its outputs. What no later operator reads is let go."""
        values: dict[str, Any] = {**self._given, self._input: x}
        for k, (run, arguments, outputs) in enumerate(self._nodes):
            made = {each["name"]: _value(each["arg"], values) for each in arguments}
            result = run(*made.values()) if run in ON_NUMBERS.values() else run(**made)
            results = [result] if len(outputs) == 1 else result or ()
            for output, part in zip(outputs, results, strict=True):
                _bind(output, part, values)
            for name in _names([each["arg"] for each in arguments]):
                if self._last[name] == k and name not in self._outputs:
                    values.pop(name, None)
        return [values[name] for name in self._outputs]


def _members(content: bytes) -> dict[str, bytes]:
    """The files of the archive by name, without the folder that all lie in."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ValueError("its parts are compressed, which torch.export never does")
        return {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}


def _model(members: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Graph and signature of the one network in the archive."""
    names = [name for name in members if name.startswith("models/") and name.endswith(".json")]
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} networks, not one")
    module = json.loads(members[names[0]])["graph_module"]
    return module["graph"], module["signature"]


def _tensors(members: dict[str, bytes], folder: str) -> dict[str, Tensor]:
    """The tensors that the listing of a folder names, none of them pickled."""
    made = {}
    for listing in [name for name in members if name.startswith(folder) and name.endswith("_config.json")]:
        for name, entry in json.loads(members[listing])["config"].items():
            about = entry["tensor_meta"]
            if entry["use_pickle"] or about is None:
                raise ValueError(f"{name} in it is pickled, not plain numbers")
            sizes, strides = ([size["as_int"] for size in about[key]] for key in ("sizes", "strides"))
            raw, dtype = bytearray(members[folder + entry["path_name"]]), DTYPES[about["dtype"]]
            flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            made[name] = flat.as_strided(sizes, strides, about["storage_offset"]["as_int"])
    return made


def _known(target: str) -> Any:
    """The operator of a name, if it is one of the known."""
    found = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)
    if found and (found[1] in KNOWN or found[1].removesuffix("_") in KNOWN):  # …_ is the same, in place
        return getattr(getattr(torch.ops.aten, found[1]), found[2])
    if target.removeprefix("_operator.") in ON_NUMBERS:
        return ON_NUMBERS[target.removeprefix("_operator.")]
    raise ValueError(f"it uses {target[:80]!r}, which is not run here: export it as .onnx")


def _value(argument: dict[str, Any], values: dict[str, Any]) -> Any:
    """What an argument of an operator stands for."""
    ((kind, given),) = argument.items()
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return values[given["name"]]
        case "as_sym_int":
            return values[given["as_name"]] if "as_name" in given else given["as_int"]
        case "as_tensors":
            return [values[each["name"]] for each in given]
        case "as_sym_ints":
            return [_value({"as_sym_int": each}, values) for each in given]
        case "as_optional_tensor":
            return _value(given, values)
        case "as_optional_tensors":
            return [_value(each, values) for each in given]
        case "as_scalar_type":
            return DTYPES[given]
        case "as_memory_format":
            return FORMATS[given]
        case "as_device":
            return torch.device("cpu")
        case "as_layout":
            return torch.strided
    if kind not in PLAIN:
        raise ValueError(f"it has an argument of kind {kind}, which is not run here: export it as .onnx")
    return float(given) if kind == "as_float" else given  # infinities are kept as text


def _names(part: Any) -> set[str]:
    """The values that an argument, or a list of them, reads."""
    if isinstance(part, list):
        return {name for each in part for name in _names(each)}
    if not isinstance(part, dict):
        return set()
    return {part[key] for key in ("name", "as_name") if key in part} | _names(list(part.values()))


def _bind(output: dict[str, Any], part: Any, values: dict[str, Any]) -> None:
    """Keep a result under the name or names that the graph gives it."""
    ((kind, given),) = output.items()
    if kind in ("as_tensor", "as_sym_int"):
        values[given["name"] if kind == "as_tensor" else given["as_name"]] = part
    elif kind == "as_tensors":
        values.update(zip((each["name"] for each in given), part, strict=True))
    elif kind != "as_none":
        raise ValueError(f"an operator in it returns {kind}, which is not run here: export it as .onnx")
