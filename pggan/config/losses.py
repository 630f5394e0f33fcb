"""The losses and regularisers, as torch-free tables; one short file each.

A new loss is one file with an `Objective` and one `ObjectiveSpec` here, a technique one file in pggan/regularizers and
one `RegularizerSpec`: the step, the command line and the tests read the tables and know none by name.
"""

from __future__ import annotations

from dataclasses import replace

from pggan.config.loss_options import ObjectiveSpec, OptimizerDefaults, Option, RegularizerSpec, Value, choice, flag
from pggan.config.registry import Registry
from pggan.utils.errors import UsageError

__all__ = ["OBJECTIVES", "REGULARIZERS", "ObjectiveSpec", "OptimizerDefaults", "Option", "RegularizerSpec", "Value"]

LABEL_SMOOTHING = Option("label_smoothing", 1.0, 0.5, 1.0, "real target of the cross-entropy (one-sided: 0.9)")
CLASS_WEIGHT = Option("class_weight", 1.0, 0.0, 1e3, "weight of the cross-entropy of the data's classes")

OBJECTIVES: Registry[ObjectiveSpec] = Registry(
    "loss",
    [
        ObjectiveSpec(
            "wgan-gp",
            "pggan.losses.wgan:Wasserstein",
            "Wasserstein critic with gradient penalty and drift term, one critic step (Karras et al. 2018)",
            regularizers=("gradient-penalty", "drift"),
            needs=frozenset({"penalty"}),
        ),
        ObjectiveSpec(
            "wgan",
            "pggan.losses.wgan_clip:ClippedWasserstein",
            "Wasserstein critic with clipped weights, five critic steps, RMSprop (Arjovsky et al. 2017)",
            options=(Option("clip", 0.01, 1e-6, 1e3, "D's weights, as they are used, are clipped to [-c, c]"),),
            # like the clip, the published rate is that of weights as they are used: stored ones hardly move at it
            g_optimizer=OptimizerDefaults("rmsprop", 5e-5, as_used=True),
            d_optimizer=OptimizerDefaults("rmsprop", 5e-5, as_used=True),
            n_critic=5,
        ),
        ObjectiveSpec(
            "gan",
            "pggan.losses.gan:NonSaturating",
            "cross-entropy, non-saturating generator (Goodfellow et al. 2014)",
            options=(LABEL_SMOOTHING,),
            probability=True,
        ),
        ObjectiveSpec(
            "gan-saturating",
            "pggan.losses.gan_saturating:Minimax",
            "cross-entropy, minimax generator, whose gradient vanishes (Goodfellow et al. 2014)",
            options=(LABEL_SMOOTHING,),
            probability=True,
        ),
        ObjectiveSpec(
            "lsgan",
            "pggan.losses.lsgan:LeastSquares",
            "least squares to 1 and 0 (Mao et al. 2017)",
        ),
        ObjectiveSpec("hinge", "pggan.losses.hinge:Hinge", "hinge (Lim and Ye 2017; Miyato et al. 2018)"),
        ObjectiveSpec(
            "r1",
            "pggan.losses.gan:NonSaturating",
            "non-saturating with a gradient penalty on reals (Mescheder et al. 2018)",
            options=(LABEL_SMOOTHING,),
            regularizers=("r1-penalty",),
            needs=frozenset({"penalty"}),
            probability=True,
        ),
        ObjectiveSpec(
            "began",
            "pggan.losses.began:BoundaryEquilibrium",
            "boundary equilibrium: D is an auto-encoder, its error the score (Berthelot et al. 2017)",
            options=(
                Option("began_gamma", 0.5, 1e-3, 1.0, "diversity ratio gamma: error of fakes over that of reals"),
                Option("began_lambda_k", 0.001, 0.0, 1.0, "pace of the balance k"),
            ),
            needs=frozenset({"reconstruction"}),
            # published: 1e-4, for weights drawn near 0; equalized ones are of the size of 1
            g_optimizer=OptimizerDefaults("adam", 1e-3, (0.5, 0.999)),
            d_optimizer=OptimizerDefaults("adam", 1e-3, (0.5, 0.999)),
        ),
    ],
)

REGULARIZERS: Registry[RegularizerSpec] = Registry(
    "regularizer",
    [
        RegularizerSpec(
            "gradient-penalty",
            "pggan.losses.regularizers.gradient_penalty:GradientPenalty",
            "two-sided penalty on the gradient norm between reals and fakes (Gulrajani et al. 2017)",
            options=(
                Option("gp_weight", 10.0, 0.0, 1e6, "weight lambda of the gradient penalty"),
                Option("gp_target", 1.0, 1e-3, 1e6, "gradient norm that the penalty asks for"),
            ),
            needs=frozenset({"penalty"}),
        ),
        RegularizerSpec(
            "drift",
            "pggan.losses.regularizers.drift:Drift",
            "keeps real scores near zero: weight * E D(x)^2 (Karras et al. 2018)",
            options=(Option("drift_weight", 0.001, 0.0, 1e3, "weight of the drift term on real scores"),),
        ),
        RegularizerSpec(
            "classification",
            "pggan.losses.regularizers.acgan:Classification",
            "auxiliary classifier of a conditional run: cross-entropy of D's class logits (AC-GAN)",
            options=(CLASS_WEIGHT,),
            needs=frozenset({"labels"}),
            joins="labels",
        ),
        RegularizerSpec(
            "r1-penalty",
            "pggan.losses.regularizers.r1:R1",
            "penalty on the gradient at reals (Mescheder et al. 2018)",
            options=(Option("r1_gamma", 10.0, 0.0, 1e6, "weight gamma: gamma/2 * E ||grad D(x)||^2"),),
            needs=frozenset({"penalty"}),
        ),
        # before instance noise: D sees noise on augmented pictures, not augmented noise
        RegularizerSpec(
            "augmentation",
            "pggan.losses.regularizers.augmentation:Augmentation",
            "differentiable augmentation of what D sees, for few pictures (Karras et al. 2020, Zhao et al. 2020)",
            options=(
                choice(
                    "augment",
                    ("none", "diffaugment", "ada"),
                    "augment what the discriminator sees; ada tunes its strength p, best with --held-out",
                ),
                Option("augment_p", 0.0, 0.0, 1.0, "fixes ADA's p instead of tuning it; 0: tuned"),
                Option("ada_target", 0.6, 0.0, 1.0, "how far D may overfit before ADA's p rises"),
                Option("ada_kimg", 500.0, 0.001, 1e6, "thousands of images that take ADA's p from 0 to 1"),
            ),
            switch="augment",
        ),
        RegularizerSpec(
            "instance-noise",
            "pggan.losses.regularizers.instance_noise:InstanceNoise",
            "Gaussian noise on what D sees, real and generated, falling to 0 (Arjovsky and Bottou 2017)",
            options=(
                Option("instance_noise", 0.0, 0.0, 10.0, "noise on what D sees, of this deviation at first"),
                Option("instance_noise_kimg", 0.0, 0.0, 1e9, "kimg over which it falls to 0; 0: the whole run"),
            ),
            switch="instance_noise",
        ),
        RegularizerSpec(
            "feature-matching",
            "pggan.losses.regularizers.feature_matching:FeatureMatching",
            "g is the distance of mean features of reals and fakes (Salimans et al. 2016)",
            options=(
                Option("feature_matching", 0.0, 0.0, 1e6, "weight of the distance of D's mean features in g"),
                choice("feature_matching_mode", ("replace", "add"), "instead of the loss's g, or beside it"),
            ),
            needs=frozenset({"whole"}),
            switch="feature_matching",
        ),
        RegularizerSpec(
            "historical-averaging",
            "pggan.losses.regularizers.historical_averaging:HistoricalAveraging",
            "keeps each player's weights near the mean of their past (Salimans et al. 2016)",
            options=(Option("historical_averaging", 0.0, 0.0, 1e6, "weight of the distance to past weights' mean"),),
            switch="historical_averaging",
        ),
        RegularizerSpec(
            "semi-supervised",
            "pggan.losses.regularizers.semi_supervised:SemiSupervised",
            "D tells the K classes of --labels and generated as K+1-th (Salimans et al. 2016)",
            options=(
                flag("semi_supervised", "D learns the classes of --labels from some labels; G is told none"),
                Option("labelled", 0.5, 1e-4, 1.0, "share of the labels that training sees; the others measure D"),
                CLASS_WEIGHT,
            ),
            needs=frozenset({"labels", "unconditional", "probability"}),
            switch="semi_supervised",
            replaces=("classification",),
            brings=(("feature_matching", 1.0),),
        ),
        RegularizerSpec(
            "information",
            "pggan.losses.regularizers.infogan:Information",
            "D's Q head reads the codes of --categorical and --continuous from fakes (InfoGAN, Chen et al. 2016)",
            options=(Option("code_weight", 1.0, 0.0, 1e3, "weight of the codes' mutual information in d and g"),),
            joins="codes",
            g_lr=1e-3,
            d_lr=2e-4,
        ),
    ],
)


def all_options() -> dict[str, Option]:
    """Every loss's and regulariser's options by name; one name means one thing everywhere."""
    found: dict[str, Option] = {}
    for spec in [*OBJECTIVES, *REGULARIZERS]:
        for option in spec.options:
            if found.setdefault(option.name, option) is not option:
                raise ValueError(f"option {option.name} is declared twice")
    return found


def completed(given: dict[str, Value]) -> dict[str, Value]:
    """What a person gave, and what the techniques that it switches on bring along unless it is given otherwise."""
    for spec in REGULARIZERS:
        if spec.switched_on(given):
            given = {**dict(spec.brings), **given}
    return given


def regularizers_of(
    loss: str, conditional: bool, given: dict[str, Value] | None = None, codes: bool = False
) -> list[str]:
    """The regularisers of a run: the loss's own, what labels and codes bring along, and techniques switched on."""
    given = completed(given or {})
    names = list(OBJECTIVES[loss].regularizers)
    has = {"labels": conditional, "codes": codes}
    for spec in REGULARIZERS:
        if (has.get(spec.joins, False) or spec.switched_on(given)) and spec.name not in names:
            names.append(spec.name)
    replaced = {other for name in names for other in REGULARIZERS[name].replaces}
    return [name for name in names if name not in replaced]


def resolve_options(
    loss: str, conditional: bool, given: dict[str, Value], codes: bool = False
) -> dict[str, dict[str, Value]]:
    """Options for the loss and each of its regularisers, by entry name; what is not given takes its default.

    Raises `UsageError` for an option that nothing in this run takes, or a value out of range.
    """
    given = completed(given)
    entries = [(loss, OBJECTIVES[loss].options)]
    entries += [(name, REGULARIZERS[name].options) for name in regularizers_of(loss, conditional, given, codes)]
    known = {option.name for _, options in entries for option in options}
    # a switch may be given the value that leaves its technique out
    off = {spec.switch: spec for spec in REGULARIZERS if spec.switch and not spec.switched_on(given)}
    for name in given:
        if name not in known and name not in off:
            raise UsageError(_refusal(name, loss, known))
    return {entry: {o.name: o.check(given.get(o.name, o.default)) for o in options} for entry, options in entries}


# What makes a run have labels and codes.
JOINED_BY = {"labels": "--labels", "codes": "--categorical or --continuous"}


def _refusal(name: str, loss: str, known: set[str]) -> str:
    """Why an option means nothing here, and what would make it mean something."""
    takers = [spec for spec in REGULARIZERS if name in {option.name for option in spec.options}]
    if takers and all(spec.switch or spec.joins for spec in takers):
        ways = [_flag(spec.switch) for spec in takers if spec.switch]
        ways += [JOINED_BY[spec.joins] for spec in takers if spec.joins]
        return f"{_flag(name)} goes with {' or '.join(ways)}; give that, too, or leave it out"
    losses = [spec.name for spec in OBJECTIVES if name in {option.name for option in spec.options}]
    losses += [spec.name for spec in OBJECTIVES if {taker.name for taker in takers} & set(spec.regularizers)]
    flags = ", ".join(sorted(map(_flag, known))) or "no option of its own"
    return f"{_flag(name)} means nothing to --loss {loss}, which takes {flags}; it is for --loss {', '.join(losses)}"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def needs_of(loss: str, regularizers: list[str]) -> frozenset[str]:
    """What the loss and these regularisers need of the networks and the data."""
    return OBJECTIVES[loss].needs.union(*(REGULARIZERS[name].needs for name in regularizers))


def optimizers(loss: str, regularizers: list[str]) -> tuple[OptimizerDefaults, OptimizerDefaults]:
    """The optimisers of G and D that a run has where no others are asked for: the loss's, with a technique's rates."""
    g, d = OBJECTIVES[loss].g_optimizer, OBJECTIVES[loss].d_optimizer
    for name in regularizers:
        spec = REGULARIZERS[name]
        g = g if spec.g_lr is None else replace(g, lr=spec.g_lr)
        d = d if spec.d_lr is None else replace(d, lr=spec.d_lr)
    return g, d
