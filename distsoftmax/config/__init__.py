"""The options of a training run: one frozen dataclass a part, nested in `TrainConfig`.

The command line and the TOML file are both made from these classes (`command_line.py`), so an option's name, type,
default and help text stand here and nowhere else.
"""

from distsoftmax.config.data import DataConfig, Format, OnMissing, SourceConfig
from distsoftmax.config.fitting import ObjectiveConfig, SolverConfig
from distsoftmax.config.run import RunConfig, ScoringConfig, TrainConfig
from distsoftmax.config.values import Text, parse_l2_path, parse_memory
from distsoftmax.run_folder import model_file

__all__ = [
    "DataConfig",
    "Format",
    "ObjectiveConfig",
    "OnMissing",
    "RunConfig",
    "ScoringConfig",
    "SolverConfig",
    "SourceConfig",
    "Text",
    "TrainConfig",
    "model_file",
    "parse_l2_path",
    "parse_memory",
]
