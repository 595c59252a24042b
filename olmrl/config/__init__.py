"""Run-level configuration: one schema, one loader."""

from olmrl.config.load import ConfigError, dump, load
from olmrl.config.schema import GrpoConfig, SftConfig

__all__ = ["ConfigError", "GrpoConfig", "SftConfig", "dump", "load"]
