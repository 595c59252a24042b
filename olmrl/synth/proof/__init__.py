"""What a page shows and what its truth says, and whether the two agree."""
