"""A first configuration for one's own pages: looked at (`data`), proposed (`propose`), written
(`text`). What is written passes `--dry-run` on the machine that it is for.
"""
