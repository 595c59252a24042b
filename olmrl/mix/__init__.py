"""Building training mixes: `python -m olmrl.mix VERB`, every data tool of olmOCR.

A verb plans work items, does each of them idempotently, writes each output whole or not at all and
notes it in a journal (`run.py`, `journal.py`), so that a killed verb is simply started again. PDFs
are untrusted: they are opened only in child processes with a deadline (`pdf_child.py`).
"""
