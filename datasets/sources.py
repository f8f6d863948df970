"""Where the benchmarks come from, as facts: addresses, sizes, hashes, and what their parts become in CoOp's layout.

Layout, Google Drive's ids and sizes of splits are CoOp's (DATASETS.md, Zhou et al., IJCV 2022); MD5 sums are
torchvision's, SHA-256 sums and exact sizes TensorFlow Datasets' (`url_checksums/`). What nobody states is left open, and
then only what can be counted is checked. Of an archive, only what the readers read is taken; folders and names of split
files are theirs.
"""

from dataclasses import dataclass, field

VGG = "https://www.robots.ox.ac.uk/~vgg/data"
HUGGING_FACE = "https://huggingface.co/datasets"
SUN = "http://vision.princeton.edu/projects/2010/SUN"
CARS = "https://ai.stanford.edu/~jkrause"


@dataclass(frozen=True)
class Way:
    """One place to fetch a file from: a URL, or `drive:ID` on Google Drive."""

    url: str
    size: int = 0  # bytes, if known
    digest: str = ""  # md5:... or sha256:..., if known
    inside: str = ""  # in an archive of archives, the one that is wanted


@dataclass(frozen=True)
class Part:
    """What is fetched at once: `name` is how it is called in the benchmark's folder, also when it was put there by hand."""

    name: str
    ways: tuple[Way, ...] = ()  # tried in turn
    spare: bool = False  # read only where CoOp's split file is missing
    gigabytes: float = 0.0  # about, to see whether the disk has room


@dataclass(frozen=True)
class File(Part):
    entries: int | tuple[int, ...] = 0  # lines, keys, or rows of train, val and test
    copy: str = ""  # where under the data root the same file may lie already


@dataclass(frozen=True)
class Archive(Part):
    members: dict[str, str] = field(default_factory=dict)  # path under the benchmark's folder: path in the archive
    images: dict[str, int] = field(default_factory=dict)  # in which members there are at least how many
    with_names: tuple[str, ...] = ()  # further archives that belong to it, and lie beside it


@dataclass(frozen=True)
class Source:
    reader: str  # registered name
    rows: tuple[int, int, int]  # train, val, test; train is 0 for a set that only tests
    parts: tuple[Part, ...]
    by_hand: str = ""  # what to do where a licence, a login or a dead server is in the way


def split(reader: str, drive: str, rows: tuple[int, int, int]) -> File:
    return File(f"split_zhou_{reader}.json", (Way(f"drive:{drive}"),), entries=rows)


CLASSNAMES = File(
    "classnames.txt", (Way("drive:1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"),), entries=1000, copy="imagenet/classnames.txt"
)

SOURCES = {
    "imagenet": Source(
        "ImageNet",
        rows=(1_281_167, 50_000, 50_000),
        parts=(
            CLASSNAMES,
            Archive(
                "ILSVRC2012_img_train.tar",
                with_names=("ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"),
                members={"images/val": "val", "images/train": "train"},
                images={"images/val": 50_000, "images/train": 1_281_167},
                gigabytes=145,
            ),
        ),
        by_hand="ImageNet needs a login: register at https://image-net.org/download-images, fetch "
        "ILSVRC2012_img_train.tar (138 GB), ILSVRC2012_img_val.tar (6.3 GB) and ILSVRC2012_devkit_t12.tar.gz, put all "
        "three into {folder} and run this again; or link an unpacked copy: {folder}/images/train and "
        "{folder}/images/val, each with 1000 folders n01440764, n01443537 and so on.",
    ),
    "caltech101": Source(
        "Caltech101",
        rows=(4128, 1649, 2465),
        parts=(
            split("Caltech101", "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN", (4128, 1649, 2465)),
            Archive(
                "101_ObjectCategories.tar.gz",
                (
                    Way(
                        "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                        137_414_764,
                        "md5:3138e1922a9193bfa496528edbbc45d0",
                        inside="caltech-101/101_ObjectCategories.tar.gz",
                    ),
                    Way(
                        "drive:137RyRjvTBkBiIfeYBNZBtViDHQ6_Ewsp",
                        131_740_031,
                        "sha256:af6ece2f339791ca20f855943d8b55dd60892c0a25105fcd631ee3d6430f9926",
                    ),
                ),
                members={"101_ObjectCategories": "101_ObjectCategories"},
                images={"101_ObjectCategories": 8242},
            ),
        ),
    ),
    "oxford_pets": Source(
        "OxfordPets",
        rows=(2944, 736, 3669),
        parts=(
            split("OxfordPets", "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs", (2944, 736, 3669)),
            Archive(
                "annotations.tar.gz",
                (Way(f"{VGG}/pets/data/annotations.tar.gz", 19_173_078, "md5:95a8c909bbe2e81eed6a22bccdf3f68f"),),
                spare=True,
                members={"annotations": "annotations"},
            ),
            Archive(
                "images.tar.gz",
                (Way(f"{VGG}/pets/data/images.tar.gz", 791_918_971, "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"),),
                members={"images": "images"},
                images={"images": 7349},
            ),
        ),
    ),
    "stanford_cars": Source(  # the site has been dead since 2023; asking it costs a second
        "StanfordCars",
        rows=(6509, 1635, 8041),
        parts=(
            split("StanfordCars", "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT", (6509, 1635, 8041)),
            File(
                "cars_test_annos_withlabels.mat",
                (
                    Way(
                        f"{CARS}/car196/cars_test_annos_withlabels.mat",
                        185_758,
                        "sha256:790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
                    ),
                ),
                spare=True,
            ),
            Archive(
                "car_devkit.tgz",
                tuple(
                    Way(url, 330_960, "sha256:b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd")
                    for url in (
                        f"{CARS}/cars/car_devkit.tgz",
                        "https://github.com/pytorch/vision/files/11644847/car_devkit.tgz",
                    )
                ),
                spare=True,
                members={"devkit": "devkit"},
            ),
            Archive(
                "cars_train.tgz",
                (
                    Way(
                        f"{CARS}/car196/cars_train.tgz",
                        979_269_282,
                        "sha256:512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
                    ),
                ),
                members={"cars_train": "cars_train"},
                images={"cars_train": 8144},
            ),
            Archive(
                "cars_test.tgz",
                (
                    Way(
                        f"{CARS}/car196/cars_test.tgz",
                        977_350_468,
                        "sha256:bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
                    ),
                ),
                members={"cars_test": "cars_test"},
                images={"cars_test": 8041},
            ),
        ),
        by_hand="Stanford Cars has no official server any more: put cars_train.tgz and cars_test.tgz (from somebody who "
        "has them; they are checked) into {folder} and run this again; or fetch "
        "https://www.kaggle.com/datasets/jessicali9530/stanford-cars-dataset with a Kaggle account and unpack it so that "
        "{folder}/cars_train/00001.jpg (8144 images) and {folder}/cars_test/00001.jpg (8041) exist, without a second "
        "folder of the same name between (python -m datasets.verify stanford_cars says whether the names fit the split).",
    ),
    "oxford_flowers": Source(
        "OxfordFlowers",
        rows=(4093, 1633, 2463),
        parts=(
            split("OxfordFlowers", "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT", (4093, 1633, 2463)),
            File("cat_to_name.json", (Way("drive:1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0"),), spare=True, entries=102),
            File(
                "imagelabels.mat",
                (Way(f"{VGG}/flowers/102/imagelabels.mat", 502, "md5:e0620be6f572b9609742df49c70aed4d"),),
                spare=True,
            ),
            Archive(
                "102flowers.tgz",
                (Way(f"{VGG}/flowers/102/102flowers.tgz", 344_862_509, "md5:52808999861908f626f3c1f4e79d11fa"),),
                members={"jpg": "jpg"},
                images={"jpg": 8189},
            ),
        ),
    ),
    "food101": Source(
        "Food101",
        rows=(50_500, 20_200, 30_300),
        parts=(
            split("Food101", "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl", (50_500, 20_200, 30_300)),
            Archive(
                "food-101.tar.gz",
                tuple(
                    Way(url, 4_996_278_331, "md5:85eeb15f3717b99a5da872d97d918f87")
                    for url in (
                        "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
                        f"{HUGGING_FACE}/ethz/food101/resolve/main/food-101.tar.gz",
                    )
                ),
                members={"images": "food-101/images"},
                images={"images": 101_000},
            ),
        ),
    ),
    "fgvc_aircraft": Source(
        "FGVCAircraft",
        rows=(3334, 3333, 3333),
        parts=(
            Archive(
                "fgvc-aircraft-2013b.tar.gz",
                (
                    Way(
                        f"{VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
                        digest="md5:d4acdd33327262359767eeaa97a4f732",
                    ),
                ),
                gigabytes=2.8,
                members={
                    name: f"fgvc-aircraft-2013b/data/{name}"
                    for name in (
                        "variants.txt",
                        "images_variant_train.txt",
                        "images_variant_val.txt",
                        "images_variant_test.txt",
                        "images",
                    )
                },
                images={"images": 10_000},
            ),
        ),
    ),
    "sun397": Source(  # Princeton's server has answered 404 since 2025
        "SUN397",
        rows=(15_880, 3970, 19_850),
        parts=(
            split("SUN397", "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq", (15_880, 3970, 19_850)),
            Archive(
                "Partitions.zip",
                (
                    Way(
                        f"{SUN}/download/Partitions.zip",
                        18_293_705,
                        "sha256:e3311ea5f812d4cc6faef194688343d1111f6cd6f70f2c62f393c2b8d6ba1ec9",
                    ),
                ),
                spare=True,
                members={name: name for name in ("ClassName.txt", "Training_01.txt", "Testing_01.txt")},
            ),
            Archive(
                "SUN397.tar.gz",
                (Way(f"{SUN}/SUN397.tar.gz", 39_077_296_924, "md5:8ca2778205c41d23104230ba66911c7a"),),
                members={"SUN397": "SUN397"},
                images={"SUN397": 39_700},
            ),
        ),
        by_hand="If Princeton's server does not answer: fetch SUN397.tar.gz (39 GB) elsewhere, for example "
        "https://opendatalab.com/OpenDataLab/SUN397/tree/main/raw with an account there, put it into {folder} and run "
        "this again (it is checked); or unpack another copy so that {folder}/SUN397/a/abbey/sun_aaalbzqrimafwbiv.jpg "
        "exists.",
    ),
    "dtd": Source(
        "DescribableTextures",
        rows=(2820, 1128, 1692),
        parts=(
            split("DescribableTextures", "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x", (2820, 1128, 1692)),
            Archive(
                "dtd-r1.0.1.tar.gz",
                (Way(f"{VGG}/dtd/download/dtd-r1.0.1.tar.gz", 625_239_812, "md5:fff73e5086ae6bdbea199a49dfb8a4c1"),),
                members={"images": "dtd/images"},
                images={"images": 5640},
            ),
        ),
    ),
    "eurosat": Source(
        "EuroSAT",
        rows=(13_500, 5400, 8100),
        parts=(
            split("EuroSAT", "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o", (13_500, 5400, 8100)),
            Archive(
                "EuroSAT.zip",
                tuple(
                    Way(url, 94_280_567, "md5:c8fa014336c82ac7804f0398fcb19387")
                    for url in (
                        f"{HUGGING_FACE}/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                        "http://madm.dfki.de/files/sentinel/EuroSAT.zip",
                    )
                ),
                members={"2750": "2750"},
                images={"2750": 27_000},
            ),
        ),
    ),
    "ucf101": Source(
        "UCF101",
        rows=(7639, 1898, 3783),
        parts=(
            split("UCF101", "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y", (7639, 1898, 3783)),
            Archive(
                "UCF101TrainTestSplits-RecognitionTask.zip",
                (
                    Way(
                        "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
                        113_943,
                        "sha256:5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27",
                    ),
                ),
                spare=True,
                members={"ucfTrainTestlist": "ucfTrainTestlist"},
            ),
            Archive(
                "UCF-101-midframes.zip",
                (Way("drive:10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"),),
                members={"UCF-101-midframes": "UCF-101-midframes"},
                images={"UCF-101-midframes": 13_320},
                gigabytes=0.5,
            ),
        ),
    ),
    "imagenetv2": Source(
        "ImageNetV2",
        rows=(0, 0, 10_000),
        parts=(
            CLASSNAMES,
            Archive(
                "imagenetv2-matched-frequency.tar.gz",
                (
                    Way(  # its authors' place; the bucket on S3 that CoOp names refuses since 2023
                        f"{HUGGING_FACE}/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
                        1_264_079_360,
                        "sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
                    ),
                ),
                members={"imagenetv2-matched-frequency-format-val": "imagenetv2-matched-frequency-format-val"},
                images={"imagenetv2-matched-frequency-format-val": 10_000},
            ),
        ),
    ),
    "imagenet_sketch": Source(
        "ImageNetSketch",
        rows=(0, 0, 50_889),
        parts=(
            CLASSNAMES,
            Archive(
                "ImageNet-Sketch.zip",
                (
                    Way(f"{HUGGING_FACE}/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip"),
                    Way("drive:1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA"),
                ),
                members={"images": "sketch"},
                images={"images": 50_889},
                gigabytes=7.8,
            ),
        ),
    ),
    "imagenet_a": Source(
        "ImageNetA",
        rows=(0, 0, 7500),
        parts=(
            CLASSNAMES,
            Archive(
                "imagenet-a.tar",
                (
                    Way(
                        "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
                        687_552_512,
                        "sha256:3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
                    ),
                ),
                members={"imagenet-a": "imagenet-a"},
                images={"imagenet-a": 7500},
            ),
        ),
    ),
    "imagenet_r": Source(
        "ImageNetR",
        rows=(0, 0, 30_000),
        parts=(
            CLASSNAMES,
            Archive(
                "imagenet-r.tar",
                (
                    Way(
                        "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
                        2_191_079_936,
                        "sha256:18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
                    ),
                ),
                members={"imagenet-r": "imagenet-r"},
                images={"imagenet-r": 30_000},
            ),
        ),
    ),
}
