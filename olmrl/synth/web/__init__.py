"""HTML from outside as safe blocks, their pages, and the browser that sets these."""
