"""The options of a run as a TOML file that --config takes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import distsoftmax
from distsoftmax.usage.options import Option, options_of


def as_toml(config: Any) -> str:
    """Return a nested config as a TOML file; what is not set stands there as a comment.

    Examples
    --------
    >>> from distsoftmax.config import ObjectiveConfig, TrainConfig
    >>> text = as_toml(TrainConfig(objective=ObjectiveConfig(l2=1e-3)))
    >>> [line for line in text.splitlines() if "l2" in line]
    ['l2 = 0.001', '# l2-path = FROM:TO:COUNT']
    """
    import tomli_w

    from distsoftmax.config.file_paths import lasting

    lines = [f"# options of python -m distsoftmax.train --config FILE, version {distsoftmax.__version__}"]
    known: dict[str, Option] = {option.name: option for option in options_of(type(config))}
    for item in fields(config):
        part = getattr(config, item.name)
        lines += ["", f"[{item.name}]"]
        for value, name in ((getattr(part, option.name), option.name.replace("_", "-")) for option in fields(part)):
            if name == "config":
                continue
            if value in (None, ()):
                dots = " ..." if known[name].several else ""
                lines.append(f"# {name} = {known[name].placeholder}{dots}")
            else:
                lines.append(tomli_w.dumps({name: lasting(name, value)}).rstrip())
    return "\n".join(lines)
