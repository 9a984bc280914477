"""The network of RT-DETR, opened between the pyramid and the queries.

The layers and the losses are transformers'. The way through them is written out here for two reasons: maps can show
what a query read, as for a region of torchvision's detectors, and boxes are decoded in float32.
"""

import copy
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from cxr.detect.detector import Boxes, Detector, Pyramid, Targets
from cxr.detect.heads import Heads, QueryHeads
from cxr.detect.labelled import labelled_logits
from cxr.detect.transform import in_shares, on_canvas

PRIOR = 0.01  # score of a class before training, low because most queries are no finding (Lin 2017, section 3.3)
CELL = 0.05  # side of the box a query of the finest level begins with, in shares of the canvas; doubles a level
BORDER = 0.01  # cells whose centre is closer to the canvas's border begin no query


class DecoderOutput(NamedTuple):
    """The output of the decoder for B films.

    ``logits`` [B, layers, Q, K] and ``boxes`` [B, layers, Q, 4] (cxcywh in shares of the canvas) after each layer,
    ``cells`` int64 [B, Q]: the cell of the flattened pyramid that a query began at. ``cell_logits``, ``cell_boxes``
    [B, Q, …]: class scores and box of that cell, before the decoder.
    """

    logits: Tensor
    boxes: Tensor
    cells: Tensor
    cell_logits: Tensor
    cell_boxes: Tensor


class RTDETR(Detector):
    """A backbone that gives a pyramid of strides 8, 16 and 32, and queries that read it.

    Args:
        network: transformers' ``RTDetrV2Model``, whose layers are taken over.
        score_thresh: detections below are dropped.
        detections_per_img: the best so many are kept.
    """

    # class scores of cells and queries, and the classes of the noisy queries
    fresh: ClassVar[tuple[str, ...]] = (
        "head.enc_score_head.",
        "head.decoder.class_embed.",
        "head.denoising_class_embed.",
    )

    def __init__(self, network: Any, score_thresh: float, detections_per_img: int) -> None:
        super().__init__()
        self.backbone = HybridPyramid(network)
        self.head = QueryHead(network)
        self.score_thresh = score_thresh
        self.detections_per_img = detections_per_img

    def heads(self) -> Heads:
        """Return the heads behind the pyramid."""
        return QueryHeads(self)

    def losses_of(self, pyramid: Pyramid, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of ``QueryHead.losses``."""
        return self.head.losses(list(pyramid.maps.values()), targets, _size(pyramid))

    def boxes_of(self, pyramid: Pyramid) -> list[Boxes]:
        """Return the boxes of each film."""
        read = self.head(list(pyramid.maps.values()))
        boxes = on_canvas(read.boxes[:, -1], _size(pyramid))
        films = zip(boxes, read.logits[:, -1], pyramid.images.image_sizes, strict=True)
        return [self._detections(*of_film) for of_film in films]

    def _detections(self, boxes: Tensor, logits: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        scores, flat = logits.sigmoid().flatten().topk(min(self.detections_per_img, logits.numel()))
        kept = scores >= self.score_thresh
        scores, flat = scores[kept], flat[kept]
        within = clip_boxes_to_image(boxes[flat // logits.shape[1]], size)
        return {"boxes": within, "labels": flat % logits.shape[1] + 1, "scores": scores}


def _size(pyramid: Pyramid) -> tuple[int, int]:
    """Return height and width of a pyramid's canvas."""
    return pyramid.images.tensors.shape[-2], pyramid.images.tensors.shape[-1]


class HybridPyramid(nn.Module):
    """A ResNet, attention over its coarsest map, and fusion of all three maps downwards and upwards (section 4.2)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.body = network.backbone.model
        self.projections = network.encoder_input_proj
        self.encoder = network.encoder

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the maps "0", "1", "2" (strides 8, 16, 32) of a batch [B, C, H, W], all of one width."""
        maps = self.body(batch).feature_maps
        projected = [project(one) for project, one in zip(self.projections, maps, strict=True)]
        return {str(i): level for i, level in enumerate(self.encoder(projected).last_hidden_state)}


class QueryHead(nn.Module):
    """The cells that look most like a finding become queries, and the decoder refines their boxes (section 4.3).

    It computes in float32: boxes pass through the logarithm of their odds, for which bfloat16 is too coarse.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.config = network.config
        self.decoder_input_proj = network.decoder_input_proj
        self.denoising_class_embed = nn.Embedding(self.config.num_labels + 1, self.config.d_model)
        self.enc_output = network.enc_output
        self.enc_score_head = _scores(network.enc_score_head)
        self.enc_bbox_head = _offsets(network.enc_bbox_head)
        self.decoder = network.decoder
        layers = range(self.config.decoder_layers)
        self.decoder.class_embed = nn.ModuleList(_scores(network.enc_score_head) for _ in layers)
        self.decoder.bbox_embed = nn.ModuleList(_offsets(network.enc_bbox_head) for _ in layers)

    def forward(
        self, levels: Sequence[Tensor], cells: Tensor | None = None, noisy: Sequence[Tensor | None] = (None,) * 3
    ) -> DecoderOutput:
        """Return the decoder's output for a pyramid.

        Args:
            levels: [B, C, h, w] each, finest first.
            cells: int64 [B, Q], the cells where queries begin; None: those with the highest scores.
            noisy: from ``_noise``: content [B, N, C] and log-odds of boxes [B, N, 4] of queries that stand before the
                others, and a mask of which queries see each other.
        """
        with torch.autocast(levels[0].device.type, enabled=False):
            maps = [project(level.float()) for project, level in zip(self.decoder_input_proj, levels, strict=True)]
            memory = torch.cat([one.flatten(2).transpose(1, 2) for one in maps], 1)
            shapes = [(one.shape[2], one.shape[3]) for one in maps]
            starts, inside = _cell_boxes(shapes, memory.device)
            content = self.enc_output(memory * inside)
            scores, offsets = self.enc_score_head(content), self.enc_bbox_head(content) + starts
            if cells is None:
                strongest = scores.detach().amax(2)
                cells = strongest.topk(_at_most(self.config.num_queries, strongest), 1).indices
            logits, places, queries = (_at(some, cells) for some in (scores, offsets, content))
            if self.training:  # the decoder's losses must not change the boxes that queries begin with
                queries = queries.detach()
            decoded = self.decoder(
                inputs_embeds=_behind(noisy[0], queries),
                encoder_hidden_states=memory,
                encoder_attention_mask=noisy[2],
                reference_points=_behind(noisy[1], places.detach()),
                spatial_shapes=torch.tensor(shapes, device=memory.device),
                spatial_shapes_list=shapes,
            )
        every = decoded.intermediate_logits, decoded.intermediate_reference_points
        return DecoderOutput(*every, cells, logits, places.sigmoid())

    def losses(self, levels: Sequence[Tensor], targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return transformers' losses (Zhao 2024, eq. 2), each a mean over the batch's marked boxes.

        loss_vfl (varifocal), loss_bbox (L1) and loss_giou of the last layer; loss_auxiliary, the sum of the same three
        over the layers before it and the cells; loss_denoising, over the queries that began at moved boxes.
        """
        criterion: Any = importlib.import_module("transformers.loss.loss_rt_detr").RTDetrLoss(self.config)
        marks = [{"class_labels": t["labels"] - 1, "boxes": in_shares(t["boxes"], size)} for t in targets]
        noisy, meta = self._noise(marks, sum(level.shape[2] * level.shape[3] for level in levels))
        read = self(levels, noisy=noisy)
        clean, moved = _steps(read, targets, 0 if meta is None else meta["dn_num_split"][0])
        outputs = {**clean[-1], "auxiliary_outputs": clean[:-1]}
        if meta is not None:
            outputs |= {"dn_auxiliary_outputs": moved, "denoising_meta_values": meta}
        with torch.autocast(levels[0].device.type, enabled=False):
            every_loss: dict[str, Tensor] = criterion.to(levels[0].device)(outputs, marks)
        losses = {name: every_loss[name] for name in ("loss_vfl", "loss_bbox", "loss_giou")}
        losses["loss_auxiliary"] = _sum_of(every_loss, "_aux_")
        # The embedding has a gradient in every batch, also in one without boxes: other processes wait for it
        losses["loss_denoising"] = _sum_of(every_loss, "_dn_") + 0 * self.denoising_class_embed.weight.sum()
        return losses

    def _noise(
        self, marks: list[dict[str, Tensor]], cells: int
    ) -> tuple[Sequence[Tensor | None], dict[str, Any] | None]:
        """Return the queries of moved boxes, and the indices of these boxes; None where no film has a box."""
        library = importlib.import_module("transformers.models.rt_detr_v2.modeling_rt_detr_v2")
        *noisy, meta = library.get_contrastive_denoising_training_group(
            targets=marks,
            num_classes=self.config.num_labels,
            num_queries=min(self.config.num_queries, cells),
            class_embed=self.denoising_class_embed,
            num_denoising_queries=self.config.num_denoising,
            label_noise_ratio=self.config.label_noise_ratio,
            box_noise_scale=self.config.box_noise_scale,
        )
        return noisy, meta


def _steps(
    read: DecoderOutput, targets: Targets, split: int
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Return the output after each step: of the queries, beginning with the cells, and of the ``split`` noisy ones."""
    layers = [
        {"logits": labelled_logits(logits, targets, background=False), "pred_boxes": boxes}
        for logits, boxes in zip(read.logits.unbind(1), read.boxes.unbind(1), strict=True)
    ]
    cells = {"logits": labelled_logits(read.cell_logits, targets, background=False), "pred_boxes": read.cell_boxes}
    clean = [{name: value[:, split:] for name, value in layer.items()} for layer in layers]
    moved = [{name: value[:, :split] for name, value in layer.items()} for layer in layers]
    return [cells, *clean], moved


def _sum_of(losses: Mapping[str, Tensor], part: str) -> Tensor:
    some = [value for name, value in losses.items() if part in name]
    return torch.stack(some).sum() if some else losses["loss_vfl"].new_zeros(())


def _cell_boxes(shapes: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the log-odds [A, 4] of the box that a query of each cell begins with, and 1.0 or 0.0 [A, 1].

    0.0 stands for a cell that is too close to the border to begin a query, as in RT-DETR.
    """
    boxes = []
    for level, (height, width) in enumerate(shapes):
        y, x = ((torch.arange(side, device=device) + 0.5) / side for side in (height, width))
        rows, columns = torch.meshgrid(y, x, indexing="ij")  # ONNX has it, but not cartesian_prod
        centres = torch.stack([columns, rows], 2).view(-1, 2)
        boxes.append(torch.cat([centres, torch.full_like(centres, CELL * 2**level)], 1))
    every = torch.cat(boxes)
    inside = ((every > BORDER) & (every < 1 - BORDER)).all(1, keepdim=True)
    return every.logit(BORDER), inside.float()


def _at_most(count: int, values: Tensor) -> Any:
    """Return ``count``, or N of values [B, N] if that is less. In a trace, Python's ``min`` would become a constant."""
    jit: Any = torch.jit
    if not jit.is_tracing():
        return min(count, values.shape[1])
    return torch.minimum(torch.tensor(count), torch.as_tensor(values.shape[1]))


def _at(values: Tensor, cells: Tensor) -> Tensor:
    """Return the values [B, Q, ...] at the indices [B, Q] of values [B, A, ...]."""
    return values.gather(1, cells[..., None].expand(-1, -1, values.shape[2]))


def _behind(noisy: Tensor | None, clean: Tensor) -> Tensor:
    return clean if noisy is None else torch.cat([noisy, clean], 1)


def _scores(like: nn.Linear) -> nn.Linear:
    scores = nn.Linear(like.in_features, like.out_features)
    nn.init.constant_(scores.bias, -math.log((1 - PRIOR) / PRIOR))
    return scores


def _offsets(like: Any) -> nn.Module:
    """Return a head of boxes of the shape of ``like``, which moves no box before training."""
    offsets = copy.deepcopy(like)
    for layer in offsets.layers:
        layer.reset_parameters()
    nn.init.zeros_(offsets.layers[-1].weight)
    nn.init.zeros_(offsets.layers[-1].bias)
    head: nn.Module = offsets
    return head
