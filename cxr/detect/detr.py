"""RT-DETR: a detector of queries, without anchors and without suppression.

Its layers and losses are those of the package transformers (``RTDetrV2``, Apache-2.0). It is the extra ``detr`` and is
imported in the builder only. ``cxr.detect.queries`` joins the layers.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from cxr.detect.detector import finish
from cxr.detect.queries import RTDETR
from cxr.learn.weights import State, WeightsError, norm_for, read_weights, renormalised

Size = Literal["tiny", "r18", "r50"]

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "embedding_size": 32,
        "hidden_sizes": (32, 64, 96, 128),
        "depths": (1, 1, 1, 1),
        "layer_type": "basic",
        "width": 64,
        "ffn": 256,
        "heads": 4,
        "hidden_expansion": 0.5,
        "decoder_layers": 2,
    },
    "r18": {
        "embedding_size": 64,
        "hidden_sizes": (64, 128, 256, 512),
        "depths": (2, 2, 2, 2),
        "layer_type": "basic",
        "width": 256,
        "ffn": 1024,
        "heads": 8,
        "hidden_expansion": 0.5,
        "decoder_layers": 3,
    },
    "r50": {
        "embedding_size": 64,
        "hidden_sizes": (256, 512, 1024, 2048),
        "depths": (3, 4, 6, 3),
        "layer_type": "bottleneck",
        "width": 256,
        "ffn": 1024,
        "heads": 8,
        "hidden_expansion": 1.0,
        "decoder_layers": 6,
    },
}
"""Of the published models r18 and r50, and one that learns from random numbers on two cores."""

# Names of layers in transformers, and their names here
NAMES = {
    "model.backbone.model.": "backbone.body.",
    "model.encoder_input_proj.": "backbone.projections.",
    "model.encoder.": "backbone.encoder.",
    "model.": "head.",
}

MISSING = "model=rtdetr needs transformers (Apache-2.0) and scipy: pip install 'cxr[detr]'"


def rtdetr(
    num_classes: int,
    *,
    size: Size = "tiny",
    weights: str | None = None,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    queries: int = 100,
    denoising: int = 100,
    score_thresh: float = 0.01,
    detections_per_img: int = 100,
    image_head: bool = False,
) -> RTDETR:
    """RT-DETR (Zhao 2024, arXiv 2304.08069) with the decoder of RT-DETRv2 (Lv 2024, arXiv 2407.17140).

    Without weights its BatchNorm layers become GroupNorm, with them they are frozen (``cxr.learn.weights.norm_for``).

    Args:
        num_classes: findings + background.
        size: "tiny" (1 million weights), or the published "r18" (20) and "r50" (43).
        weights: a folder of transformers' RTDetrV2 (config.json and model.safetensors), a .pth or .ckpt of this
            project, or None. Nothing is downloaded.
        mean: of each channel of the stem. Published weights want films in 0..1 as they are. Where these weights have a
            stem of three channels and ``mean`` has one, the three are added up, as if the film were repeated.
        std: of each channel, likewise.
        queries: boxes of a film that are refined, many more than a film has findings.
        denoising: marked boxes, moved at random, that the decoder learns to move back in training (DINO, Zhang 2022);
            0: none.
        score_thresh: detections below are dropped.
        detections_per_img: the best so many are kept.
        image_head: a classifier of the whole film beside the boxes (``cxr.detect.image_head``).

    Raises:
        ImportError: transformers is not installed; the message has the command to type.
        WeightsError: the weights are of another size.
    """
    if size not in get_args(Size):
        raise ValueError(f"model.size is {size!r}, expected one of {', '.join(get_args(Size))}")
    library = _transformers()
    state = _read(weights, library)
    config = _config(library, size, num_classes - 1, len(mean), queries, denoising)
    network = library.RTDetrV2Model(config)
    _start_anew(network)
    detector = RTDETR(network, score_thresh, detections_per_img)
    renormalised(detector, norm_for(state))
    finish(detector, num_classes, mean, std, image_head, False, state, weights)
    return detector


def _transformers() -> Any:
    try:
        importlib.import_module("scipy.optimize")
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ImportError(MISSING) from error


def _config(library: Any, size: Size, findings: int, channels: int, queries: int, denoising: int) -> Any:
    chosen = dict(SIZES[size])
    width, ffn, heads = (chosen.pop(name) for name in ("width", "ffn", "heads"))
    body = {name: chosen.pop(name) for name in ("embedding_size", "hidden_sizes", "depths", "layer_type")}
    return library.RTDetrV2Config(
        backbone_config=library.RTDetrResNetConfig(num_channels=channels, out_indices=[2, 3, 4], **body),
        freeze_backbone_batch_norms=False,  # renormalised() does it, and only where the statistics are real
        num_labels=findings,
        num_queries=queries,
        num_denoising=denoising,
        encoder_in_channels=body["hidden_sizes"][1:],
        decoder_in_channels=[width] * 3,
        encoder_hidden_dim=width,
        d_model=width,
        encoder_ffn_dim=ffn,
        decoder_ffn_dim=ffn,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        **chosen,
    )


def _start_anew(network: nn.Module) -> None:
    """Give convolutions and linear layers torch's random numbers.

    transformers' numbers have a standard deviation of 0.01 for any width, as they are to be overwritten by weights.
    The sampling offsets of the decoder (``encoder_attn``) start on a star around the box and are not changed.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and ".encoder_attn." not in f".{name}.":
            module.reset_parameters()


def _read(weights: str | None, library: Any) -> State | None:
    """Return the state dict of the file ``weights``, with the names of layers in this project."""
    if weights is None or not Path(weights).is_dir():
        return read_weights(weights, None)
    network = library.RTDetrV2ForObjectDetection
    bars = library.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        model, loading = network.from_pretrained(
            weights, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{weights}: no folder of RTDetrV2 as transformers saves it: {error}") from error
    finally:
        if shown:
            bars.enable_progress_bar()
    if missing := sorted(loading["missing_keys"]):
        raise WeightsError(f"{weights}: made for another network: {', '.join(missing[:4])} missing")
    state = {}
    for key, value in model.state_dict().items():
        theirs = next((name for name in NAMES if key.startswith(name)), None)
        if theirs is not None:  # layers without such a name (class_embed, bbox_embed) repeat those of the decoder
            state[NAMES[theirs] + key.removeprefix(theirs)] = value
    return state
