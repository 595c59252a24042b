"""Whole PDFs to text, with what was trained: `olmrl read`, and the reading half of `bench run`.

    documents --> backend (pages, rendered once; a generator) --> attempts --> book --> files

A backend is either engines on a Ray cluster (`engines`) or any OpenAI-compatible server (`server`).
Every page that is read goes into a journal (`book`) before its document is written, so that a call
that was killed goes on where it was.
"""
