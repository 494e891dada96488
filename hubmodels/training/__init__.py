"""The bookkeeping of training. The script owns the step; nothing here calls back."""

from .config import RunConfig, load_config, resumed
from .run import Run
from .stop import Stop

__all__ = ["Run", "RunConfig", "Stop", "load_config", "resumed"]
