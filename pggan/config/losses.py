"""The tables of losses, regularizers and techniques, with their options (torch-free).

A new loss is one file in pggan/losses and one `ObjectiveSpec` here; a regularizer or technique is one file in
pggan/losses/regularizers and one `RegularizerSpec` here. Training, command line, help and tests read these tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pggan.config.loss_options import ObjectiveSpec, OptimizerDefaults, RegularizerSpec
from pggan.config.option import AUTO, Group, Option, Value, flag_of
from pggan.config.registry import Registry
from pggan.utils.errors import UsageError

__all__ = ["OBJECTIVES", "REGULARIZERS", "ObjectiveSpec", "OptimizerDefaults", "Option", "RegularizerSpec", "Value"]

# Penalties that --penalty-every takes at some of D's steps only.
LAZY = ("r1-penalty", "r2-penalty")
LABEL_SMOOTHING = Option("label_smoothing", 1.0, 0.5, 1.0, "Target of reals in the cross-entropy; one-sided: 0.9.")
CLASS_WEIGHT = Option("class_weight", 1.0, 0.0, 1e3, "Weight of the cross-entropy of the data's classes.")

# fmt: off
OBJECTIVES: Registry[ObjectiveSpec] = Registry("loss", [
    ObjectiveSpec("wgan-gp", "pggan.losses.wgan:Wasserstein",
        "Wasserstein critic with gradient penalty and drift term, one critic step (Karras et al. 2018)",
        regularizers=("gradient-penalty", "drift"), needs=frozenset({"penalty"})),
    ObjectiveSpec("wgan", "pggan.losses.wgan_clip:ClippedWasserstein",
        "Wasserstein critic with clipped weights, five critic steps, RMSprop (Arjovsky et al. 2017)",
        options=(Option("clip", 0.01, 1e-6, 1e3, "Clip D's weights, as layers use them, to [-c, c]."),),
        # like the clip, the published rate is that of weights as they are used: stored ones hardly move at it
        g_optimizer=OptimizerDefaults("rmsprop", 5e-5, as_used=True),
        d_optimizer=OptimizerDefaults("rmsprop", 5e-5, as_used=True), n_critic=5),
    ObjectiveSpec("gan", "pggan.losses.gan:NonSaturating",
        "cross-entropy, non-saturating generator (Goodfellow et al. 2014)",
        options=(LABEL_SMOOTHING,), probability=True),
    ObjectiveSpec("gan-saturating", "pggan.losses.gan_saturating:Minimax",
        "cross-entropy, minimax generator, whose gradient vanishes (Goodfellow et al. 2014)",
        options=(LABEL_SMOOTHING,), probability=True),
    ObjectiveSpec("lsgan", "pggan.losses.lsgan:LeastSquares", "least squares to 1 and 0 (Mao et al. 2017)"),
    ObjectiveSpec("hinge", "pggan.losses.hinge:Hinge", "hinge (Lim and Ye 2017; Miyato et al. 2018)"),
    ObjectiveSpec("r1", "pggan.losses.gan:NonSaturating",
        "non-saturating with a gradient penalty on reals (Mescheder et al. 2018)",
        options=(LABEL_SMOOTHING,), regularizers=("r1-penalty",), needs=frozenset({"penalty"}), probability=True),
    ObjectiveSpec("rpgan", "pggan.losses.rpgan:RelativisticPairing",
        "relativistic pairing with gradient penalties on reals and fakes (Huang et al. 2024, R3GAN)",
        regularizers=("r1-penalty",), needs=frozenset({"penalty"}),
        implies=(("r1_gamma", AUTO), ("r2_gamma", AUTO))),
    ObjectiveSpec("began", "pggan.losses.began:BoundaryEquilibrium",
        "boundary equilibrium: D is an auto-encoder, its error the score (Berthelot et al. 2017)",
        options=(
            Option("began_gamma", 0.5, 1e-3, 1.0, "Diversity ratio gamma: error of fakes over that of reals."),
            Option("began_lambda_k", 0.001, 0.0, 1.0, "Learning rate of the balance k."),
        ),
        needs=frozenset({"reconstruction"}),
        # published: 1e-4, for weights drawn near 0; equalized ones are of the size of 1
        g_optimizer=OptimizerDefaults("adam", 1e-3, (0.5, 0.999)),
        d_optimizer=OptimizerDefaults("adam", 1e-3, (0.5, 0.999))),
])

REGULARIZERS: Registry[RegularizerSpec] = Registry("regularizer", [
    RegularizerSpec("gradient-penalty", "pggan.losses.regularizers.gradient_penalty:GradientPenalty",
        "two-sided penalty on the gradient norm between reals and fakes (Gulrajani et al. 2017)",
        options=(
            Option("gp_weight", 10.0, 0.0, 1e6, "Weight lambda of the gradient penalty."),
            Option("gp_target", 1.0, 1e-3, 1e6, "Gradient norm at which the penalty is 0."),
        ),
        needs=frozenset({"penalty"})),
    RegularizerSpec("drift", "pggan.losses.regularizers.drift:Drift",
        "keeps real scores near zero: weight * E D(x)^2 (Karras et al. 2018)",
        options=(Option("drift_weight", 0.001, 0.0, 1e3, "Weight of the drift term on real scores."),)),
    RegularizerSpec("classification", "pggan.losses.regularizers.acgan:Classification",
        "D reads the labels of a conditional run: cross-entropy of classes (AC-GAN), squared error of numbers",
        options=(
            CLASS_WEIGHT,
            Option("number_weight", 10.0, 0.0, 1e3,
                "Weight of the squared error with which D reads labels that are numbers, from -1 to 1."),
        ), needs=frozenset({"labels"}), joins="labels"),
    RegularizerSpec("r1-penalty", "pggan.losses.regularizers.r1:R1",
        "penalty on the gradient at reals (Mescheder et al. 2018)",
        options=(
            Option("r1_gamma", 10.0, 0.0, 1e6,
                "Weight gamma of the penalty gamma/2 * E ||grad D(x)||^2 at reals x, also by resolution; auto: 0.0002 "
                "x pixels / batch (Karras et al. 2020), which is the default of --loss rpgan.", by_resolution=True,
                scheduled=True),
        ),
        needs=frozenset({"penalty"})),
    RegularizerSpec("r2-penalty", "pggan.losses.regularizers.r2:R2",
        "penalty on the gradient at generated images (Mescheder et al. 2018)",
        options=(
            Option("r2_gamma", 0.0, 0.0, 1e6,
                "The same at generated images, with any loss; 0: none. auto: as for --r1-gamma, and the default of "
                "--loss rpgan.", by_resolution=True, scheduled=True),
        ),
        needs=frozenset({"penalty"}), switch="r2_gamma"),
    # before instance noise: D sees noise on augmented images, not augmented noise
    RegularizerSpec("augmentation", "pggan.losses.regularizers.augmentation:Augmentation",
        "differentiable augmentation of D's images, for small data sets (Karras et al. 2020, Zhao et al. 2020)",
        options=(
            Option("augment", "none", choices=("none", "diffaugment", "ada"),
                help="Augment the images that the discriminator sees; ada tunes its strength p, best with --held-out."),
            Option("augment_p", 0.0, 0.0, 1.0, "Fix ADA's p at this value, or START..END over the run; 0: tune it.",
                scheduled=True, metavar="P|A..B"),
            Option("ada_target", 0.6, 0.0, 1.0, "Overfitting of D above which ADA's p rises."),
            Option("ada_kimg", 500.0, 0.001, 1e6, "Thousands of images in which ADA's p can rise from 0 to 1."),
        ),
        switch="augment"),
    RegularizerSpec("instance-noise", "pggan.losses.regularizers.instance_noise:InstanceNoise",
        "Gaussian noise on the images that D sees, real and generated, falling to 0 (Arjovsky and Bottou 2017)",
        options=(
            Option("instance_noise", 0.0, 0.0, 10.0,
                "Add noise of this standard deviation to the images that D sees."),
            Option("instance_noise_kimg", 0.0, 0.0, 1e9,
                "Thousands of images over which the noise falls to 0; 0: the whole run."),
        ),
        switch="instance_noise"),
    RegularizerSpec("feature-matching", "pggan.losses.regularizers.feature_matching:FeatureMatching",
        "g is the distance of mean features of reals and fakes (Salimans et al. 2016)",
        options=(
            Option("feature_matching", 0.0, 0.0, 1e6,
                "Weight of the distance between D's mean features, in G's loss."),
            Option("feature_matching_mode", "replace", choices=("replace", "add"),
                help="Replace G's loss, or add to it."),
        ),
        needs=frozenset({"whole"}), switch="feature_matching"),
    RegularizerSpec("historical-averaging", "pggan.losses.regularizers.historical_averaging:HistoricalAveraging",
        "keeps each player's weights near the mean of their past (Salimans et al. 2016)",
        options=(
            Option("historical_averaging", 0.0, 0.0, 1e6,
                "Weight of the distance between weights and their past mean."),
        ),
        switch="historical_averaging"),
    RegularizerSpec("semi-supervised", "pggan.losses.regularizers.semi_supervised:SemiSupervised",
        "D tells the K classes of --labels and generated as K+1-th (Salimans et al. 2016)",
        options=(
            Option("semi_supervised", False,
                help="D learns the classes of --labels from a share of the labels; G gets none."),
            Option("labelled", 0.5, 1e-4, 1.0,
                "Share of the labels used for training; the others measure D's accuracy."),
            CLASS_WEIGHT,
        ),
        needs=frozenset({"labels", "unconditional", "probability"}), switch="semi_supervised",
        replaces=("classification",), implies=(("feature_matching", 1.0),)),
    RegularizerSpec("information", "pggan.losses.regularizers.infogan:Information",
        "D's Q head reads the codes of --categorical and --continuous from fakes (InfoGAN, Chen et al. 2016)",
        options=(Option("code_weight", 1.0, 0.0, 1e3, "Weight of the codes' mutual information, in both losses."),),
        joins="codes", g_lr=1e-3, d_lr=2e-4),
])
# fmt: on


def all_options() -> dict[str, Option]:
    """Returns the options of every loss and regularizer by name, each under its heading of the help."""
    declared: dict[str, Option] = {}
    options: dict[str, Option] = {}
    of_losses = {name for loss in OBJECTIVES for name in loss.regularizers}
    for spec in [*OBJECTIVES, *REGULARIZERS]:
        group = Group.LOSS if spec.name in OBJECTIVES or spec.name in of_losses else Group.TECHNIQUES
        for option in spec.options:
            if declared.setdefault(option.name, option) is not option:
                raise ValueError(f"option {option.name} is declared twice")
            options.setdefault(option.name, dataclasses.replace(option, group=group))
    return options


def with_implied(loss: str, options: Mapping[str, Value]) -> dict[str, Value]:
    """Returns the options, and those that the loss and the techniques which they switch on imply."""
    result = {**dict(OBJECTIVES[loss].implies), **options}
    for spec in REGULARIZERS:
        if spec.switched_on(result):
            result = {**dict(spec.implies), **result}
    return result


def regularizers_of(loss: str, conditional: bool, options: Mapping[str, Value], codes: bool = False) -> list[str]:
    """Returns the names of a run's regularizers and techniques.

    Args:
        loss: name of the loss; its own regularizers come first.
        conditional: whether the run has labels.
        options: options of losses and techniques, which may switch techniques on.
        codes: whether the latents have structured codes.
    """
    options = with_implied(loss, options)
    names = list(OBJECTIVES[loss].regularizers)
    has = {"labels": conditional, "codes": codes}
    for spec in REGULARIZERS:
        if (has.get(spec.joins, False) or spec.switched_on(options)) and spec.name not in names:
            names.append(spec.name)
    replaced = {other for name in names for other in REGULARIZERS[name].replaces}
    return [name for name in names if name not in replaced]


def resolve_options(
    loss: str, conditional: bool, options: Mapping[str, Value], codes: bool = False
) -> dict[str, dict[str, Value]]:
    """Returns the options of the loss and of each regularizer by entry name, with defaults. Arguments as above.

    Raises:
        UsageError: nothing in this run takes an option, or a value is out of range.
    """
    options = with_implied(loss, options)
    entries = [(loss, OBJECTIVES[loss].options)]
    entries += [(name, REGULARIZERS[name].options) for name in regularizers_of(loss, conditional, options, codes)]
    known = {option.name for _, taken in entries for option in taken}
    # a switch may be given the value that leaves its technique out
    off = {spec.switch for spec in REGULARIZERS if spec.switch and not spec.switched_on(options)}
    for name in options:
        if name not in known and name not in off:
            raise UsageError(_refusal(name, loss, known))
    return {entry: {o.name: o.check(options.get(o.name, o.default)) for o in taken} for entry, taken in entries}


# What gives a run labels and codes.
JOINED_BY = {"labels": "--labels", "codes": "--categorical or --continuous"}


def _refusal(name: str, loss: str, known: set[str]) -> str:
    """Says why nothing in the run takes an option, and what would."""
    takers = [spec for spec in REGULARIZERS if name in {option.name for option in spec.options}]
    if takers and all(spec.switch or spec.joins for spec in takers):
        ways = [flag_of(spec.switch) for spec in takers if spec.switch]
        ways += [JOINED_BY[spec.joins] for spec in takers if spec.joins]
        return f"{flag_of(name)} goes with {' or '.join(ways)}; give that, too, or leave it out"
    losses = [spec.name for spec in OBJECTIVES if name in {option.name for option in spec.options}]
    losses += [spec.name for spec in OBJECTIVES if {taker.name for taker in takers} & set(spec.regularizers)]
    flags = ", ".join(sorted(map(flag_of, known))) or "no option of its own"
    return f"{flag_of(name)} means nothing to --loss {loss}, which takes {flags}; it is for --loss {', '.join(losses)}"


def optimizers(loss: str, regularizers: list[str]) -> tuple[OptimizerDefaults, OptimizerDefaults]:
    """Returns the default optimizers of G and D: the loss's, with the learning rates of techniques."""
    g, d = OBJECTIVES[loss].g_optimizer, OBJECTIVES[loss].d_optimizer
    for name in regularizers:
        spec = REGULARIZERS[name]
        g = g if spec.g_lr is None else dataclasses.replace(g, lr=spec.g_lr)
        d = d if spec.d_lr is None else dataclasses.replace(d, lr=spec.d_lr)
    return g, d
