"""The rows of a probe: layers x heads x poolings, and the controls beside them. Nothing is computed here."""

from collections.abc import Sequence

from classify.experiments.kinds.classical import HEAD2TOE, Classical, head2toe
from classify.experiments.probe.question import Question
from classify.experiments.row import Row
from classify.experiments.sources import CachedLayer, Pixels, Source
from classify.heads import HEADS, Head
from classify.heads.on_axes import Reduction
from classify.show.layers import CANDIDATES
from features.cut import Cut
from features.request import Plan, Request, split_names

# A row, and the part that it plays: 'layer', 'selection', 'head2toe', 'random', 'pixels', 'shuffled', 'pca' or
# 'projection'.
Part = tuple[str, Row]


def probe_layers(request: Request, depth: str) -> tuple[str, ...]:
    """The layers asked for; with depth 'block', `all` stands for every block as well as every stage.

    A block is called by the shortest name that means its last node: 'layer1.0', and 'layer1' for the last of a stage.
    """
    if depth == "stage" or "all" not in request.layers:
        return request.layers
    from features.backbones import requested_backbone

    cut = requested_backbone(request).cut(request.image_size)
    order = {name: place for place, name in enumerate(cut.layers)}
    names = {cut.resolve(stage): stage for stage in reversed(cut.stages)}
    for block in cut.blocks:
        parts = block.split(".")
        short = next(
            name for name in (".".join(parts[:n]) for n in range(1, len(parts) + 1)) if _means(cut, name, block)
        )
        names.setdefault(block, short)
    blocks = tuple(names[node] for node in sorted(names, key=order.__getitem__))
    return tuple(dict.fromkeys(name for layer in request.layers for name in (blocks if layer == "all" else (layer,))))


def _means(cut: Cut, name: str, node: str) -> bool:
    """Whether a name is that of a module (or node) whose last node is this one."""
    return any(layer == name or layer.startswith(f"{name}.") for layer in cut.layers) and cut.resolve(name) == node


def sources_of(plan: Plan) -> tuple[CachedLayer, ...]:
    """Each (layer, pooling) of a plan once: those that read the same files are one, called by its best known name."""
    return tuple(CachedLayer(plan, layer, pool) for layer, pool in plan.distinct())


def joined(plan: Plan, sources: Sequence[CachedLayer], layers: Sequence[str]) -> CachedLayer:
    """Layers side by side, in the order of the plan, under its first pooling."""
    wanted = [source.layer for source in sources if source.layer in layers]
    return CachedLayer(plan, "+".join(dict.fromkeys(wanted)), plan.request.pools[0])


def single_sources(sources: Sequence[CachedLayer]) -> tuple[CachedLayer, ...]:
    """The single layers under the first pooling, which are what is joined and compared with each other."""
    plan = sources[0].plan
    first = {plan.files(layer, plan.request.pools[0]) for layer in plan.layers}
    return tuple(
        source
        for source in sources
        if len(split_names(source.layer)) == 1 and plan.files(source.layer, source.pool) in first
    )


def joinable(sources: Sequence[CachedLayer]) -> tuple[CachedLayer, ...]:
    """The single layers worth joining: without `fc` beside `avgpool`, of which it is an affine function."""
    singles = single_sources(sources)
    redundant = {"fc"} if any(source.layer == "avgpool" for source in singles) else set()
    return tuple(source for source in singles if source.layer not in redundant)


def plain_rows(question: Question, sources: Sequence[CachedLayer]) -> list[Part]:
    """Every layer under every head."""
    return [_part("layer", question, source, HEADS[name]) for source in sources for name in question.heads]


def joined_rows(question: Question, plan: Plan, sources: Sequence[CachedLayer], selected: Sequence[str]) -> list[Part]:
    """Rows of several layers together: those selected greedily under every head, and Head2Toe over all."""
    parts: list[Part] = []
    if len(selected) > 1:
        source = joined(plan, sources, selected)
        if source not in sources:
            parts += [_part("selection", question, source, HEADS[name]) for name in question.heads]
    if question.head2toe:
        source = joined(plan, sources, [single.layer for single in joinable(sources)])
        parts.append(_part(HEAD2TOE, question, source, head2toe(source.widths)))
    return parts


def control_rows(
    question: Question,
    sources: Sequence[CachedLayer],
    random: Plan | None,
    pixels: Pixels | None,
    width: int | None,
) -> list[Part]:
    """The rows that the plain ones are held against; width: to which all of them are brought, None for no such row."""
    heads = [HEADS[name] for name in question.heads]
    few = [HEADS[name] for name in question.control_heads]
    parts: list[Part] = []
    if random is not None:
        drawn = [CachedLayer(random, source.layer, source.pool) for source in sources]
        parts += [_part("random", question, source, head) for source in drawn for head in heads]
    if pixels is not None:
        parts += [_part("pixels", question, pixels, head) for head in heads]
    if question.controls:
        parts += [_part("shuffled", question, source, head) for source in sources for head in few]
    if width is not None:
        # Principal axes draw nothing: their rows are the same for every seed of the projection.
        for reduction in (Reduction("pca", width), Reduction("projection", width, question.settings.seed)):
            parts += [
                _part(reduction.kind, question, source, head, reduction=reduction) for source in sources for head in few
            ]
    return parts


def _part(kind: str, question: Question, source: Source, head: Head, reduction: Reduction | None = None) -> Part:
    """A control's head is not kept: nobody predicts with it."""
    row = Row(
        source=source,
        head=Classical(head=head, reduction=reduction),
        settings=question.settings,
        shuffled=kind == "shuffled",
        keep=kind in CANDIDATES,
    )
    return kind, row
