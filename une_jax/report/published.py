"""What the UNE paper (arXiv 2603.21786) reports on CelebA, to print beside our numbers.

Models go by our built-in names. What the paper's text gives is exact; the accuracies of
its Figure 3 were read off the plot, to about 0.01 (0.015 where a marker is hidden).
Values that no readable source gives are absent.
"""

from typing import NamedTuple

# Table 1: percentage of 5,000 random projections of 250 images each that an
# Anderson-Darling test accepts at the 5 % level.
ANDERSON_DARLING = {
    "sd15": 96.00,
    "sd21": 95.80,
    "lcm7": 95.58,
    "clip-b16": 89.50,
    "clip-l14": 91.90,
    "dinov3-l16": 84.48,
}
BIMODAL_CONTROL = 15.88
# The released code's run on 162,770 latents of SD 1.5, in percent.
RELEASED_CODE = {"anderson_darling": 95.6, "dagostino_pearson": 95.4, "shapiro_wilk": 95.5}  # fmt: skip


class Alignment(NamedTuple):
    """Table 2: noise mapped to an embedding; the drop is in percentage points."""

    cosine: float
    drop: float


ALIGNMENT = {
    ("sd15", "clip-b16"): Alignment(0.80, 0.20),
    ("sd21", "clip-b16"): Alignment(0.80, 0.14),
    ("lcm7", "clip-b16"): Alignment(0.81, 0.00),
}
# Of the six other pairs the text says that the drop is below this.
LARGEST_DROP = 0.3

# Figure 6: mean accuracy from 16 numbers an image, roughly, in percent. Whether over
# all attributes or some, and whether balanced, is not stated.
SIXTEEN = {"clip-b16": 79.0, "sd15": 77.0, "X1": 78.0, "X5": 77.0}

_ATTRIBUTES = """
                     clip-b16   sd15   sd21   lcm7 dinov3-l16
5_o_Clock_Shadow      0.929 ~0.885  0.882  0.887  0.918
Arched_Eyebrows       0.847  0.783  0.792  0.786  0.817
Attractive            0.807  0.751 ~0.763  0.763  0.803
Bags_Under_Eyes       0.836  0.797 ~0.807  0.807  0.824
Bald                  0.990 ~0.978  0.980  0.976  0.983
Bangs                 0.938  0.882  0.900  0.895  0.923
Big_Lips              0.869 ~0.845  0.850  0.840  0.863
Big_Nose              0.836 ~0.773  0.795  0.776  0.817
Black_Hair            0.887  0.837  0.847  0.826  0.888
Blond_Hair            0.944  0.896  0.918  0.903  0.936
Blurry                0.959 ~0.947  0.950  0.944  0.956
Brown_Hair            0.819 ~0.762  0.774  0.756  0.801
Bushy_Eyebrows        0.920 ~0.880  0.885  0.875  0.903
Chubby                0.954 ~0.933  0.936  0.929  0.953
Double_Chin           0.960 ~0.949  0.955  0.943  0.958
Eyeglasses            0.993  0.944  0.961  0.964  0.989
Goatee                0.962 ~0.934  0.941  0.928  0.960
Gray_Hair             0.977 ~0.953  0.959  0.947  0.973
Heavy_Makeup          0.912  0.837  0.858  0.851  0.900
High_Cheekbones       0.861  0.807  0.829  0.821  0.861
Male                  0.993  0.887  0.924  0.899  0.990
Mouth_Slightly_Open   0.893  0.783 ~0.815  0.807  0.898
Mustache              0.960 ~0.939  0.942  0.937  0.954
Narrow_Eyes           0.927 ~0.916  0.918  0.915  0.923
No_Beard              0.955  0.859  0.890  0.885  0.954
Oval_Face             0.771  0.746 ~0.729  0.728  0.753
Pale_Skin            ~0.957 ~0.953  0.957  0.950  0.959
Pointy_Nose           0.759 ~0.718  0.722  0.715  0.753
Receding_Hairline     0.942 ~0.929  0.935  0.924  0.935
Rosy_Cheeks           0.935 ~0.924 ~0.924  0.924  0.933
Sideburns             0.967 ~0.937  0.942  0.932  0.962
Smiling               0.915  0.857  0.884  0.871  0.911
Straight_Hair         0.840 ~0.797  0.801  0.793  0.835
Wavy_Hair             0.849 ~0.760  0.773  0.747  0.864
Wearing_Earrings      0.895 ~0.814  0.830  0.816  0.896
Wearing_Hat           0.984 ~0.960  0.966  0.953  0.984
Wearing_Lipstick      0.923  0.855  0.875  0.859  0.922
Wearing_Necklace      0.887  0.877  0.871  0.867  0.891
Wearing_Necktie       0.952 ~0.921  0.929  0.925  0.956
Young                 0.893 ~0.807  0.803  0.812  0.882
"""


class Accuracy(NamedTuple):
    """Of a linear probe; ``hidden`` where other markers cover it in the figure."""

    value: float
    hidden: bool


def _figure_3() -> dict[str, dict[str, Accuracy]]:
    models, *lines = [line.split() for line in _ATTRIBUTES.strip().splitlines()]
    return {
        model: {
            line[0]: Accuracy(float(line[i].lstrip("~")), line[i].startswith("~"))
            for line in lines
        }
        for i, model in enumerate(models, start=1)
    }


PROBE_ACCURACY = _figure_3()  # model -> CelebA attribute -> accuracy

# The miniature's members were made after these models of the paper.
MINIATURE = {
    "mini-sd15": "sd15",
    "mini-sd21": "sd21",
    "mini-lcm": "lcm7",
    "mini-clip-p8": "clip-l14",
    "mini-clip-p16": "clip-b16",
    "mini-openclip-p8": "openclip-l14",
    "mini-openclip-p16": "openclip-b16",
    "mini-dinov3": "dinov3-l16",
}


def model_of(view: str) -> str:
    """The paper's model that a view is, or that its miniature stands for.

    >>> model_of("mini-clip-p16"), model_of("sd15")
    ('clip-b16', 'sd15')
    """
    return MINIATURE.get(view, view)
