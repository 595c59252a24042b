"""Building training mixes: `python -m olmrl.mix VERB`, every data tool of olmOCR.

A verb plans work items, processes each idempotently, writes outputs atomically and keeps a journal
(`run.py`, `journal.py`): to resume a killed verb, start it again. PDFs are untrusted, so they are
only opened in child processes with a deadline (`data.fence`).
"""
