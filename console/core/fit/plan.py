"""How vLLM divides KV cache memory: caches with one block table form a group, and all groups draw blocks of one size.

A request takes blocks from every group: as many as it has tokens where all are kept, a bounded number where only a
window is. That number is why "GPU KV cache size: N tokens" of V4 depends on the context length, and why bytes per
token alone cannot give it. Follows `v1/core/kv_cache_utils.py` of vLLM 0.32 (`get_kv_cache_groups`,
`_get_packed_kv_cache_groups`, `get_max_concurrency_for_kv_cache_config`), written anew; tests hold it to the figures
that real servers printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from console.core.fit.pages import CacheLayer, Keep

__all__ = ["Group", "KvPlan", "plan_cache", "stage_ranges"]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Caches that share a block table."""

    keep: Keep
    block: int
    span: int
    caches: tuple[CacheLayer, ...]

    @property
    def bytes_per_block(self) -> int:
        """One page of each cache."""
        return sum(cache.page_bytes for cache in self.caches)

    def blocks(self, length: int, in_flight: int) -> int:
        """Blocks that one request of `length` tokens may hold.

        Args:
            in_flight: tokens scheduled and not yet settled: vLLM frees what left a window only after its step.
        """
        match self.keep:
            case Keep.ALL:
                return _divided(length, self.block)
            case Keep.WINDOW:
                # One more: a window need not begin where a block does.
                return _divided(min(self.span - 1 + in_flight, length), self.block) + 1
            case Keep.CHUNK:
                return _divided(min(self.span + in_flight, length), self.block)
            case Keep.RING:
                return 1


class KvPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The KV cache of one engine, as one GPU holds it."""

    groups: tuple[Group, ...]
    block_bytes: int
    """Memory of one block on the GPU that needs most for it."""
    in_flight: int
    """Tokens scheduled and not yet settled."""
    slot_bytes: int = 0
    """Memory of one block as it is laid out, where vLLM's checks reckon with `block_bytes` and its figures do not."""

    def request_blocks(self, length: int) -> int:
        """Blocks of one request of `length` tokens, over all groups."""
        return sum(group.blocks(length, self.in_flight) for group in self.groups)

    def request_bytes(self, length: int) -> int:
        """Memory of one request of `length` tokens on one GPU."""
        return self.request_blocks(length) * self.block_bytes

    def growth_bytes(self) -> float:
        """Memory that one more token takes in a long request."""
        return sum(self.block_bytes / group.block for group in self.groups if group.keep is Keep.ALL)

    def concurrency(self, available_bytes: float, length: int) -> float:
        """Requests of `length` tokens that fit: the figure that vLLM prints as maximum concurrency.

        With `slot_bytes` a request counts by the bytes of its pages, not by the blocks that it holds, so that more
        seem to fit (`get_max_concurrency_for_kv_cache_config` in vLLM 0.26; 0.32 counts blocks).
        """
        available = max(0, int(available_bytes))
        if not self.slot_bytes:
            return available // self.block_bytes / self.request_blocks(length)
        kept = [group for group in self.groups if group.keep is Keep.ALL]
        sizes = {cache.page_bytes for group in kept for cache in group.caches}
        asked = sum(
            group.blocks(length, self.in_flight) * sum(_padded(cache.page_bytes, sizes) for cache in group.caches)
            for group in self.groups
        )
        return available // self.slot_bytes / _divided(asked, kept[0].bytes_per_block)

    def tokens(self, available_bytes: float, length: int) -> int:
        """The figure that vLLM prints as KV cache size: concurrency × context length."""
        return int(self.concurrency(available_bytes, length) * length)

    def longest(self, available_bytes: float, limit: int) -> int:
        """The longest context up to `limit` that starts; vLLM keeps one block back for itself. 0 if none does."""
        usable = max(0, int(available_bytes)) // self.block_bytes - 1
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.request_blocks(middle) <= usable else (low, middle - 1)
        return low


def plan_cache(
    caches: Sequence[CacheLayer], *, in_flight: int, stages: Sequence[range] = (), packed: bool = True
) -> KvPlan:
    """Group caches and size their block.

    Args:
        in_flight: see `Group.blocks`.
        stages: layers of each pipeline stage; none for one stage. Groups are made over the whole model, and each
            stage holds its own layers of them.
        packed: a block is as large as the largest group (vLLM 0.32). Otherwise vLLM's checks reckon with room for
            one page of each size per layer of the pattern, and its layout has as many slots of each size as the
            group with most of them (`_max_memory_usage_bytes_from_groups`, `_get_kv_cache_config_packed` in 0.26).
    """
    buckets: dict[tuple[object, ...], list[CacheLayer]] = {}
    for cache in caches:
        buckets.setdefault((cache.keep, cache.block, cache.span), []).append(cache)
    sizes = {cache.page_bytes for cache in caches}
    repeats: int | None = None
    if len(buckets) == 1:
        groups = [_group(caches)]
    elif len(sizes) == 1:
        groups = _equal_pages(list(buckets.values()))
    else:
        groups, repeats = _mixed_pages(list(buckets.values()))
    held = [groups] if not stages else [[_of(group, stage) for group in groups] for stage in stages]
    slots = 0
    if packed or repeats is None:
        block = max(sum(cache.page_bytes for cache in group.caches) for stage in held for group in stage)
    else:
        kept = {cache.page_bytes for cache in caches if cache.keep is Keep.ALL}
        block = _divided(repeats, max(1, len(stages))) * sum(kept)
        slots = max(_slot_bytes(stage, kept) for stage in held)
    return KvPlan(groups=tuple(groups), block_bytes=block, in_flight=in_flight, slot_bytes=slots)


def stage_ranges(layers: int, stages: int, drafts: int = 0) -> tuple[range, ...]:
    """Layers of each pipeline stage: what does not divide evenly goes to the stages before the last.

    Draft layers are numbered after the model's and live on the last stage.
    Source: `get_pp_indices` in vLLM's `distributed/utils.py`.
    """
    counts = [layers // stages] * stages
    for number in range(2, layers % stages + 2):
        counts[-number] += 1
    counts[-1] += drafts
    starts = [sum(counts[:number]) for number in range(stages)]
    return tuple(range(start, start + count) for start, count in zip(starts, counts, strict=True))


def _of(group: Group, stage: range) -> Group:
    return msgspec.structs.replace(group, caches=tuple(cache for cache in group.caches if cache.layer in stage))


def _group(caches: Sequence[CacheLayer]) -> Group:
    first = caches[0]
    return Group(keep=first.keep, block=first.block, span=first.span, caches=tuple(caches))


def _equal_pages(buckets: list[list[CacheLayer]]) -> list[Group]:
    """Pages of one size: each kind is cut into groups of as many layers as the rarest kind has.

    Where the kinds are nearly equally many (less than 1.5 times), the larger number is taken.
    """
    counts = [len(bucket) for bucket in buckets]
    size = max(counts) if max(counts) < min(counts) * 1.5 else min(counts)
    groups = []
    for bucket in buckets:
        number = _divided(len(bucket), size)
        groups += [_group(bucket[start::number]) for start in range(number)]
    return groups


def _mixed_pages(buckets: list[list[CacheLayer]]) -> tuple[list[Group], int | None]:
    """Pages of several sizes: kinds with equally many of each size are a repeating pattern and may be cut up."""
    patterns = []
    for bucket in buckets:
        by_size: dict[int, list[CacheLayer]] = {}
        for cache in bucket:
            by_size.setdefault(cache.page_bytes, []).append(cache)
        columns = list(by_size.values())
        patterns.append((bucket, columns, len({len(column) for column in columns}) == 1))
    mixed = [len(columns[0]) for _, columns, balanced in patterns if balanced and len(columns) > 1]
    repeats = None
    if mixed:
        repeats = _least_padding([len(columns[0]) for _, columns, balanced in patterns if balanced], max(mixed))
    whole = max((_page_sum(bucket) for bucket in buckets if bucket[0].keep is Keep.ALL), default=0)
    groups: list[Group] = []
    for bucket, columns, balanced in patterns:
        number = _divided(len(columns[0]), repeats) if balanced and repeats is not None else 1
        if bucket[0].keep is Keep.RING or (repeats is None and bucket[0].keep is not Keep.ALL):
            # State may be cut to single layers rather than widen the block.
            number = max(number, _divided(len(bucket), max(1, whole // bucket[0].page_bytes)))
        if number == 1:
            groups.append(_group(bucket))
            continue
        rows = list(zip(*columns, strict=True))
        groups += [_group([cache for row in rows[start::number] for cache in row]) for start in range(number)]
    return groups, repeats


def _least_padding(counts: Sequence[int], least: int) -> int:
    """The group size from `least` on that pads `counts` up by least; the larger of equals."""
    return min(range(least, max(*counts, least) + 1), key=lambda size: (sum(-n % size for n in counts), -size))


def _slot_bytes(groups: Sequence[Group], sizes: set[int]) -> int:
    """One block with as many slots of each page size as the group with most of them."""
    counts = [Counter(_padded(cache.page_bytes, sizes) for cache in group.caches) for group in groups]
    return sum(size * max(count[size] for count in counts) for size in sizes)


def _padded(page_bytes: int, sizes: set[int]) -> int:
    """A page takes a slot of the next larger size; one that is larger than all keeps its own."""
    return min((size for size in sizes if size >= page_bytes), default=page_bytes)


def _page_sum(caches: Sequence[CacheLayer]) -> int:
    return sum(cache.page_bytes for cache in caches)


def _divided(value: int, by: int) -> int:
    return -(-value // by)
