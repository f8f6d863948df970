"""The defaults of every run. A method adds its own keys under TRAINER.<NAME>, a config file lists what differs."""

import os

from yacs.config import CfgNode as CN


def get_defaults() -> CN:
    cfg = CN()
    cfg.VERSION = 1
    cfg.OUTPUT_DIR = "./output"
    cfg.RESUME = ""  # folder of a run that broke off
    cfg.SEED = -1  # negative: not fixed
    cfg.USE_CUDA = True  # where there is a GPU
    cfg.DETERMINISTIC = False  # on a GPU, the same bits each time, at a price in speed; a CPU needs nothing for it
    cfg.VERBOSE = True

    cfg.INPUT = CN()
    cfg.INPUT.SIZE = (224, 224)
    cfg.INPUT.INTERPOLATION = "bilinear"  # nearest, bilinear, bicubic
    cfg.INPUT.TRANSFORMS = ()  # of training; their order is fixed, see dassl/data/transforms
    cfg.INPUT.NO_TRANSFORM = False
    cfg.INPUT.PIXEL_MEAN = [0.485, 0.456, 0.406]  # ImageNet's
    cfg.INPUT.PIXEL_STD = [0.229, 0.224, 0.225]
    cfg.INPUT.CROP_PADDING = 4  # pixels
    cfg.INPUT.RRCROP_SCALE = (0.08, 1.0)  # share of the area
    cfg.INPUT.CUTOUT_N = 1
    cfg.INPUT.CUTOUT_LEN = 16  # pixels
    cfg.INPUT.GN_MEAN = 0.0
    cfg.INPUT.GN_STD = 0.15
    cfg.INPUT.RANDAUGMENT_N = 2
    cfg.INPUT.RANDAUGMENT_M = 10
    cfg.INPUT.COLORJITTER_B = 0.4
    cfg.INPUT.COLORJITTER_C = 0.4
    cfg.INPUT.COLORJITTER_S = 0.4
    cfg.INPUT.COLORJITTER_H = 0.1
    cfg.INPUT.RGS_P = 0.2  # probability of grey
    cfg.INPUT.GB_P = 0.5  # probability of a blur
    cfg.INPUT.GB_K = 21  # its kernel, odd

    cfg.DATASET = CN()
    cfg.DATASET.ROOT = ""
    cfg.DATASET.NAME = ""
    cfg.DATASET.SOURCE_DOMAINS = ()
    cfg.DATASET.TARGET_DOMAINS = ()
    cfg.DATASET.NUM_LABELED = -1
    cfg.DATASET.NUM_SHOTS = -1  # images a class; below 1: all
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base, new
    cfg.DATASET.ALLOW_SHARED_IMAGES = False  # a list may name an image in two parts, or under two classes
    cfg.DATASET.ALLOW_OUTSIDE = False  # a list may name images outside the data set's image folder
    cfg.DATASET.VAL_PERCENT = 0.1
    cfg.DATASET.STL10_FOLD = -1
    cfg.DATASET.CIFAR_C_TYPE = ""
    cfg.DATASET.CIFAR_C_LEVEL = 1
    cfg.DATASET.ALL_AS_UNLABELED = False

    cfg.DATALOADER = CN()
    cfg.DATALOADER.NUM_WORKERS = 4  # at most as many as there are cores
    cfg.DATALOADER.K_TRANSFORMS = 1  # versions of each training image
    cfg.DATALOADER.RETURN_IMG0 = False  # the image without augmentation too
    cfg.DATALOADER.KEEP_MB = 1024  # for the decoded images of a training loader, all its workers together; 0: none
    # Of each training image, encoded once, by methods with a frozen image encoder; 0: always new ones.
    cfg.DATALOADER.VIEWS = 0
    cfg.DATALOADER.TRAIN_X = CN()
    cfg.DATALOADER.TRAIN_X.SAMPLER = "RandomSampler"
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 32
    cfg.DATALOADER.TRAIN_X.N_DOMAIN = 0  # domains a batch
    cfg.DATALOADER.TRAIN_X.N_INS = 16  # images a class in a batch
    cfg.DATALOADER.TRAIN_U = CN()
    cfg.DATALOADER.TRAIN_U.SAME_AS_X = True
    cfg.DATALOADER.TRAIN_U.SAMPLER = "RandomSampler"
    cfg.DATALOADER.TRAIN_U.BATCH_SIZE = 32
    cfg.DATALOADER.TRAIN_U.N_DOMAIN = 0
    cfg.DATALOADER.TRAIN_U.N_INS = 16
    cfg.DATALOADER.TEST = CN()
    cfg.DATALOADER.TEST.SAMPLER = "SequentialSampler"
    cfg.DATALOADER.TEST.BATCH_SIZE = 32
    cfg.DATALOADER.TEST.CACHE_DIR = ""  # folder for test images at INPUT.SIZE, which all runs share; empty: none

    cfg.FEATURES = CN()  # of frozen encoders: computed once, for all runs
    # The folder that all runs share; empty: each run computes its own.
    cfg.FEATURES.DIR = os.environ.get("FEATURES_CACHE", "~/.cache/spotlighter/features")
    cfg.FEATURES.TOKENS_MB = 256  # of the patch tokens of one list of images; more are computed each time; 0: all

    cfg.MODEL = CN()
    cfg.MODEL.INIT_WEIGHTS = ""
    cfg.MODEL.BACKBONE = CN()
    cfg.MODEL.BACKBONE.NAME = ""
    cfg.MODEL.BACKBONE.PRETRAINED = True
    cfg.MODEL.BACKBONE.ACT = ""  # gelu or quick_gelu; empty: what the weights' config says, or OpenAI's quick_gelu
    cfg.MODEL.BACKBONE.RESIZE_POSITIONS = False  # a ViT's, interpolated for images of INPUT.SIZE
    cfg.MODEL.HEAD = CN()
    cfg.MODEL.HEAD.NAME = ""
    cfg.MODEL.HEAD.HIDDEN_LAYERS = ()
    cfg.MODEL.HEAD.ACTIVATION = "relu"
    cfg.MODEL.HEAD.BN = True
    cfg.MODEL.HEAD.DROPOUT = 0.0

    cfg.OPTIM = CN()
    cfg.OPTIM.NAME = "adam"
    cfg.OPTIM.LR = 0.0003
    cfg.OPTIM.WEIGHT_DECAY = 5e-4
    cfg.OPTIM.MOMENTUM = 0.9
    cfg.OPTIM.SGD_DAMPNING = 0  # spelt as in all of the field's configs
    cfg.OPTIM.SGD_NESTEROV = False
    cfg.OPTIM.RMSPROP_ALPHA = 0.99
    cfg.OPTIM.ADAM_BETA1 = 0.9
    cfg.OPTIM.ADAM_BETA2 = 0.999
    cfg.OPTIM.ADAM_EPS = 1e-8  # adam, amsgrad, adamw, radam
    cfg.OPTIM.STAGED_LR = False  # children in NEW_LAYERS at LR, the others at LR * BASE_LR_MULT
    cfg.OPTIM.NEW_LAYERS = ()
    cfg.OPTIM.BASE_LR_MULT = 0.1
    cfg.OPTIM.LR_SCHEDULER = "single_step"  # single_step, multi_step, cosine
    cfg.OPTIM.STEPSIZE = (-1,)  # epochs; below 1: never
    cfg.OPTIM.GAMMA = 0.1
    cfg.OPTIM.MAX_EPOCH = 10
    cfg.OPTIM.WARMUP_EPOCH = -1  # below 1: none
    cfg.OPTIM.WARMUP_TYPE = "linear"  # linear, constant
    cfg.OPTIM.WARMUP_CONS_LR = 1e-5
    cfg.OPTIM.WARMUP_MIN_LR = 1e-5
    cfg.OPTIM.WARMUP_RECOUNT = True  # the schedule begins after the warm-up, not with it

    cfg.TRAIN = CN()
    cfg.TRAIN.CHECKPOINT_FREQ = 0  # epochs; below 1: the last one only
    cfg.TRAIN.PRINT_FREQ = 10  # batches from one line of progress, and point of TensorBoard, to the next
    cfg.TRAIN.COUNT_ITER = "train_x"  # train_x, train_u, smaller_one
    cfg.TRAIN.ATTENTION = "fused"  # fused; plain: slower, for methods that take gradients of gradients
    cfg.TRAIN.COMPILE = ""  # compile: the encoders of a training step, by torch.compile; graphs: into CUDA graphs too

    cfg.TEST = CN()
    cfg.TEST.EVALUATOR = "Classification"
    cfg.TEST.PER_CLASS_RESULT = False
    cfg.TEST.COMPUTE_CMAT = False
    cfg.TEST.NO_TEST = False
    cfg.TEST.SPLIT = "test"  # test, val
    cfg.TEST.FINAL_MODEL = "last_step"  # last_step, best_val

    cfg.TRAINER = CN()
    cfg.TRAINER.NAME = ""
    return cfg
