"""Finding what is known about content, and saying what local policy makes of it.

`image` and `pdq` turn a picture into signals. `index` (PDQ), `exact` (all other types)
and `matcher` find candidates among all live signals, in memory, and `clusters` near
duplicates. `judging` makes an answer of what the store then confirms: `thresholds` say
how near is near enough, `opinions` and `policy` what to do, `allowing` and `flood` when
not to.
"""
