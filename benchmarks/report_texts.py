"""What REPORT.md says between its tables: how to read them, and what follows from them."""

INTRODUCTION = """# Does it help?

Made by `python benchmarks/report.py` from the files in `results/`; how to make those is in [README.md](README.md).
Accuracy in %, mean ± standard deviation over seeds; a seed fixes the training images drawn, the initial weights, the
order of the images, shifts and flips, the same for every method. A gain is paired: the mean over seeds of a method's
accuracy less that of none at the same seed, with Student's 95 % interval in brackets. Methods with fewer seeds have
their mean accuracy over other draws: compare gains.
"""

EXPLORED = """## What led to the styles

On held-out training images, without a generator but for the two rows that name one: mean gain on no augmentation, at
the same images and the same seed of the training, and in brackets how many trainings. `explore_swaps.py` says what each
does; rows with "ratios apart", "affine" after an average, or "generator" are of an earlier form of it. A training on
signs varies by 3 points or more with its seed alone. What follows:

- Warping one image of a class onto another gives clean morphs and gains less than averaging: layout is not what so
  small a set lacks most. Warps borrowed from any class help on signs and do little on CIFAR-10.
- Brightness and contrast are. Those of any image of the set, on 3 × 3 cells, gain more than AutoAugment. Taken from
  images of the same class alone they gain half as much; one cell for the whole image gains less on signs, 36 cells and
  a `p` of 0.75 no more.
- Averages alone and the generator beside them are level: a point apart, within the noise of so few trainings.
"""

GENERATORS = """## Whether the generator can do better

The same on two other draws of held-out training images (seeds 102 and 103, on which no augmentation has 82 % at 5 signs
a class and not the 70 % of the draws above, so that gains there compare within this table only). What follows:

- Half of the synthetic images from the generator (`mixed`) against averages alone (`pixel`): level on CIFAR-10 at 10 a
  class, 1 point worse at 50, 1.5 and 3 on signs, and 4 beside AutoAugment at 50 a class. So the generator makes one in
  ten by default.
- Adding what it fails to rebuild, of one real image (`residual`) or of both (`both`), is as good as averages on
  CIFAR-10 and not on signs. Its coarse content with the detail of averages (`blend`) is level: nothing gained.
- A generator that is told the class, so that codes of all classes share a meaning (`shared`), and its linear
  counterpart (`modes`) gain less than the nine cells of the style.
- A smaller weight of the classifier makes far better images of CIFAR-10 ("The weight of the classifier"). Half of them
  among averages is level with averages alone there, 0.7 and 0.1 points ahead, and 2.5 and more behind on signs.
- Nor do better images yet ("Other ways to fit"): with prototypes on the sphere, the best of candidates, the set's own
  classifier as a loss, an adversary or unlabelled images, half generated is level with averages alone at 10 a class of
  CIFAR-10, the best of them, prototypes, over four draws as well (below). On 5 signs a class prototypes and candidates
  are 4 points behind. (Those candidates drew another ratio as well.)
"""

FOUR_DRAWS = """The best of them on draws 102 to 105:
"""

BESIDE_POLICIES = """## Beside AutoAugment

On draws 102 to 105, averages with a style. `p` is the probability of a swap, `spare=true` gives the policy to real
images alone, `policy_p` to a share of them, `style` is how far styles go, `stop` ends the swap after a share of the
training, and `refresh=true` estimates the statistics of batch normalisation anew from real images. What follows:

- The policy on synthetic images as well is too much for trainings as short as these: 3 points worse than AutoAugment
  alone at 10 signs a class. On real images alone (`glico+full-autoaugment`) it is not, and more swaps beside it are
  better still: over the four settings, at the same four draws, 0.9 points with three images in four swapped, 1.1 with
  two in three and the policy on half of the rest, which is `glico+autoaugment`; 0.3 with half swapped and the policy on
  half of the rest.
- Half the style helps less, and no swap in the last quarter does not. Statistics of batch normalisation are not the
  trouble: to estimate them from real images changes nothing.
- At four times the steps the policy on all images is level with AutoAugment at 50 a class of CIFAR-10; no combination
  beats the swap alone there. On signs the learning rate of 0.3, chosen at 600 steps for no augmentation, does not hold
  for longer trainings: one of nine was lost (23 %, hence -67). At a rate of 0.1 the policy on real images alone is a
  point ahead of AutoAugment.
"""

TRIED = """## What was tried before the styles

On held-out training images and at seeds apart from those above, with a standard error of a point or more, larger on
signs: enough to drop what hurts, not to rank what is close. Here signs were trained with a weight decay of 0.005,
CIFAR-10 at 50 a class for 600 steps, and fits had at least 600 steps. `residual=both` adds what the generator does not
rebuild, faded from one image to the other; `fade` lets the probability of a swap fall to 0 over the training;
`pixel_share` is the share of averages. What follows:

- Eight dimensions and ratios up to 1 beat 64 dimensions and 0.4 where there are 50 or 100 images, and ruin the swap at
  500, whose images eight dimensions blur. So the dimension grows with the set, one in 8 images.
- Half of the synthetic images as averages of pixels beat the generator alone on CIFAR-10.
- Dropped: a fading probability, swaps more often than one in two, 4 and 16 dimensions, and the residual, which hurts
  with 8 dimensions; with 64 it helped on CIFAR-10, one draw each, no more than averages do.
- Open: a fit of 1500 steps, which did better on the one draw it was tried and takes 2.5 times as long.
"""

IMAGES = """Features and classes are those of a WRN-10-1 trained on training images the fits have not seen, so FID and
KID (to the test images) compare within a setting only. Nearest training image: root-mean-square distance of pixels in
[0, 1]. Diversity: mean distance within a class over that of the test images. Angles between codes in degrees. One
seed, or mean ± standard deviation over several.
"""

CLASSIFIER_WEIGHTS = """### The weight of the classifier

The same for draw 102, with distances to half of the training images that were not drawn; the other half trained the
judge. A smaller weight γ than the default of 0.5 makes the generator's images of CIFAR-10 far more like real ones, at
50 a class above all, and those of signs less. In the swap ("Whether the generator can do better") it gains nothing over
averages, so the default stays; for `glico sample` on images that vary as those of CIFAR-10 do, take
`--classifier-weight 0.02`. A lower learning rate of the codes does not help.
"""

TRIALS = """### Other ways to fit, and between codes

What `accuracy/trials.py` adds to the fit, or to the way between codes, on draw 102; on CIFAR-10 beside γ = 0.02. Rows
from `interpolated` on were scored on other random numbers than the rest. What follows:

- A class loss on the codes themselves (`prototypes`) brings the codes of a class together, which the joint classifier
  does not, and puts more images into the right class: 53 and not 45 % of CIFAR-10's, 91 and not 82 of the signs'.
  Features of a classifier trained on the set (`network`) and the best of four candidates by the joint classifier
  (`choose`) lower KID as much; prototypes with the features to 0.012, where averages have 0.020; 400 unlabelled images
  (`unlabeled`; they are among those scored, and the fit is longer) to 0.006. An adversary helps a little.
- A cross-entropy on interpolated images, smooth paths, matched texture and averaged weights change nothing. Several
  partners make it worse. Views, shifted and flipped, need more steps than a fit of this length has.
- What is more like real images here is nearer to the training images and less diverse, and trained no better classifier
  ("Whether the generator can do better"). None is an option of the library so far; prototypes are the one to take for
  images as such.
"""

DIGITS = """## Handwritten digits

A third kind of image, after all settings of the swap were fixed: scikit-learn's digits, whose brightness by cells
nearly is the digit. Styles come from any class here as well; averages without them (`pixel`) gain little.
"""
