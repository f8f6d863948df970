"""What one run is, for everyone who asks.

layout       where runs stand: the folders of each protocol, and the data sets in the field's order    (no PyTorch)
folder       a run's folder: its record, its checkpoints, its lock                                      (no PyTorch)
request      what is asked of one run, as data or as a command line                                     (no PyTorch)
arguments    what command lines have in common                                                          (no PyTorch)
command      what a command ends with: exit codes, and which errors are the user's to mend              (no PyTorch)
interrupts   the signals that end one                                                                   (no PyTorch)
settings     what a method's authors set by protocol, shots and data set                                (no PyTorch)
config       data -> the config of a run
identity     what makes two runs the same
differences  what differs between two, and what is refused for it
judges       which images may choose a model
record       what a run leaves behind
work         a config -> a trained, or tested, run
rebuild      a finished run -> its trainer, ready to predict
"""
