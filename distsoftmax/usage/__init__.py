"""What a command says of its options: help, a TOML file of them, shell completion; all from the dataclasses."""
