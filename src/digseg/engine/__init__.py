"""The tiled engine: flat memory, exact blending, a resumable probability store."""

from digseg.engine.cluster import Workers
from digseg.engine.estimate import Estimate, estimate
from digseg.engine.instances import Instances, instances
from digseg.engine.labels import LabelRule, LazyLabels, labels
from digseg.engine.plan import Block, BlockInfo, Order, Plan
from digseg.engine.segment import EngineResult, segment
from digseg.engine.store import ProbabilityStore

__all__ = [
    "Block",
    "BlockInfo",
    "EngineResult",
    "Estimate",
    "Instances",
    "LabelRule",
    "LazyLabels",
    "Order",
    "Plan",
    "ProbabilityStore",
    "Workers",
    "estimate",
    "instances",
    "labels",
    "segment",
]
