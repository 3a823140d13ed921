"""Model files of other programs, read without running them: the one place where a pickle of a model is looked at.

`convert` starts a child without torch, under limits; the child reads the file (`files`) as a list of instructions
(`pickled`) that describe tensors (`views`), and writes them as plain bytes; `layouts` gives them the names of elegan.
"""
