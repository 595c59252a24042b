"""What leaves this machine for the Hugging Face Hub, and only by a command with `push` in it.

`cards` writes what stands on a model or data set, `upload` compares with what is there and sends
the rest. What a card says of a model or of pages comes from the rooms that know it.
"""
