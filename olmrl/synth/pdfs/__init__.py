"""Pages like those of real PDFs, written by a vision model."""
