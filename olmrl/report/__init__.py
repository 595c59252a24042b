"""Self-contained HTML pages: what a run did, what a bench candidate failed, what a mix contains."""

from olmrl.report.html import PageCard, Table, Text, page

__all__ = ["PageCard", "Table", "Text", "page"]
