"""Finding what is known about content, and saying what local policy makes of it.

`image` and `pdq` turn a picture into signals. `index` and `matcher` find candidates
among all live signals, in memory. `opinions` and `policy` judge what the store then
confirms.
"""
