"""Self-contained HTML pages: what a run did, what a bench candidate failed, what a mix contains."""

from olmrl.report.html import Curves, Sample, Table, Text, page

__all__ = ["Curves", "Sample", "Table", "Text", "page"]
