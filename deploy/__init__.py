"""A trained run, made into files that classify pictures without this code.

classifier   the run as one module, images -> probabilities, and as a graph
formats      the graph as ONNX, as ONNX in 8 bits, as PyTorch's .pt2; each read back as a function
comparing    what the files say beside what the run says
folder       the whole export
use_me       goes into it: classifies pictures, and needs onnxruntime, numpy and pillow alone
"""
