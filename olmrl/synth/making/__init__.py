"""What every way of making pages shares, from its options to the finished folder."""
