"""One rule for shapes, at the door of every public function of the losses: what does not fit is refused in one line that names it. Nothing broadcasts.

A row is a name, a function, and its arguments, each with a role:
`sample` is (N,) or (N, 1), with the same result, and `each` may be one number for all as well; `number` is a tensor of one element; `exact` fits in one
shape only. Where nothing else says how many there are, any number of samples (`samples`), entries (`vector`), rows (`rows`) or columns (`columns`), and
any size (`square`) is right.
Every argument is given in every odd shape, once with sizes that are all equal, where a wrong shape is most likely to broadcast, and once with sizes that all differ.
"""
import pytest
import torch

from dir_nb import shapes
from dir_nb.bins import BinGrid
from dir_nb.compendium import surrogate as su
from dir_nb.feature_stats import ProjectedStats, Statistics
from dir_nb.heads import uvote as uv
from dir_nb.heads import vir
from dir_nb.heads import hca, label_distribution as ld, mean_variance as mv
from dir_nb.losses import balanced_mse as bm
from dir_nb.losses import conr as cr
from dir_nb.losses import dist_loss as dl
from dir_nb.losses import irda as ir
from dir_nb.losses import isda
from dir_nb.losses import meta_irda as mi
from dir_nb.losses import ordinal_entropy as oe
from dir_nb.losses import pointwise as pw
from dir_nb.losses import prime as pr
from dir_nb.losses import rank as rk
from dir_nb.losses import rank_n_contrast as rn
from dir_nb.losses import ranksim as rs
from dir_nb.losses import remse as rm
from dir_nb.losses import srl
from dir_nb.parts import augmentation as au
from dir_nb.parts import bin_head as bh
from dir_nb.parts import label_model as lm
from dir_nb.parts.balance import Balance
from dir_nb.parts.bin_augmentation import BinAugmentation
from dir_nb.parts.clusters import Clusters, Reservoir, cluster_posterior
from dir_nb.parts.decoder import Decoder, posterior, posterior_mean, posterior_median
from dir_nb.parts.noise import Noise, target_std

SIZES = {"equal": (5, 5, 5, 5), "different": (6, 8, 3, 2)}  # N samples, B bins, D features, K clusters or components


def rows(n: int, b: int, d: int, k: int) -> dict:
    "name -> (function, {argument: (role, tensor that fits)}); a function returns a tensor to compare."
    gen = torch.Generator().manual_seed(0)
    grid = BinGrid(0, b, 1)
    uniform = lambda *shape: torch.rand(*shape, generator=gen)
    whole = lambda high, *shape: torch.randint(high, shape, generator=gen)
    sample = {"pred": ("sample", uniform(n) * b), "target": ("sample", uniform(n) * b), "weight": ("sample", uniform(n))}
    variance = {"noise_var": ("number", torch.tensor(2.0))}
    sigma = {"noise_sigma": ("number", torch.tensor(1.5))}
    values = {"values": ("exact", grid.values)}
    counts = {"counts": ("exact", whole(9, b) + 1)}
    prior = {"prior": ("exact", uniform(b))}
    log_prior = {"log_prior": ("exact", uniform(b).log())}
    eta = {"eta": ("columns", uniform(b, k).softmax(1))}
    mixture = {"gmm_weights": ("exact", uniform(k)), "gmm_means": ("exact", uniform(k)), "gmm_vars": ("exact", uniform(k))}
    labels = {"pred": ("exact", uniform(n, d)), "target": ("exact", uniform(n, d)), "weight": ("sample", uniform(n))}
    feat = {"feat": ("exact", uniform(n, d))}
    bins = {"bins": ("exact", whole(b, n))}
    covs = {"gmm_covs": ("exact", torch.eye(d) + torch.zeros(k, d, d))}
    none = {"reduction": "none"}

    def noise_after(**args):
        noise = Noise(1.0, unit="residual").setup(torch.ones(3), torch.arange(3.0))
        noise.gather(**args)
        return torch.stack([noise.error_sum, noise.weight_sum])

    def pool_after(feat, bins):
        reservoir = Reservoir(d, 4)
        reservoir.start(0)
        reservoir.gather(feat, bins)
        return reservoir.sample()[0]

    def clusters_after(feat, bins):
        clusters = Clusters(2).setup(b, d)
        clusters.gather(feat, bins)
        return clusters.reservoir.sample()[1]

    def bin_mean_after(**args):
        mean = mi.BinMean(b)
        mean.update(**args)
        return mean.epoch_sum

    def projected_after(**args):
        stats = ProjectedStats(b, d)
        stats.update(**args)
        return stats.epoch_cross

    many, head = torch.full((b,), 10_000), (uniform(d), torch.tensor(1.0))
    own = {"bins": ("sample", bins["bins"][1])}
    augmented = sample | own | {"var": ("each", uniform(n)), "shift": ("each", uniform(n))} | sigma
    terms = rm.competitors(grid.values, eta["eta"][1], log_prior["log_prior"][1])
    gamma = {"gamma": ("sample", uniform(n))}
    matrix = {"confusion": ("exact", uniform(b, b)), "kernel": ("exact", uniform(b, b)), "count": counts["counts"]}
    variances = {"var": ("exact", uniform(b)), "count": counts["counts"]}
    shift = {"proj": ("sample", uniform(n)), "target": sample["target"]}
    whole_losses = {
        "IRDALoss": lambda: ir.IRDALoss(grid, many, d, reduction="none"),
        "IRDALoss with clusters": lambda: ir.IRDALoss(grid, many, d, clusters=Clusters(2, "factor"), reduction="none"),
        "IRDALoss, projected": lambda: ir.IRDALoss(grid, many, d, au.Augmentation(statistics=Statistics("projected")), reduction="none"),
        "Meta-IRDA": lambda: ir.IRDALoss(grid, many, d, mi.MetaAugmentation(), reduction="none"),
        "ISDARLoss": lambda: isda.ISDARLoss(grid, many, d, reduction="none"),
        "RISDARLoss": lambda: isda.RISDARLoss(grid, many, d, reduction="none"),
    }
    augmenting = {
        **{f"irda_loss {name}": (lambda name=name, **a: ir.irda_loss(**a, terms=terms, surrogate=name, **none), augmented) for name in ir.SURROGATES},
        **{f"irda_loss {f.__name__}": (lambda f=f, **a: ir.irda_loss(**a, terms=terms, surrogate=f, **none), augmented) for f in (su.printed, su.printed_20)},
        **{f"isda_r_loss {form}": (lambda form=form, **a: isda.isda_r_loss(**a, form=form, **none), {k: v for k, v in augmented.items() if k != "shift"} | values | log_prior)
           for form in isda.FORMS},
        **{f"risda_r_loss {form}": (lambda form=form, **a: isda.risda_r_loss(**a, form=form, **none), augmented | values | log_prior | gamma) for form in isda.FORMS},
        **{name: (lambda make=make, **a: make().eval()(**a, head=head), sample | feat) for name, make in whole_losses.items()},
        **{f"{name} in training": (lambda make=make, **a: make()(**a, head=head), sample | feat) for name, make in whole_losses.items()},
        "IRDALoss()": (lambda counts: ir.IRDALoss(grid, counts, d).bin_weight, counts),
        "residual_shift": (au.residual_shift, shift | {"bias": ("number", torch.tensor(0.5))}),
        "printed_shift": (lambda **a: su.printed_shift(**a, bias=0.0), shift),
        **{f.__name__: (f, matrix) for f in (au.wfds, au.fds, su.printed_smoothing)},
        "isotropy": (lambda **a: au.isotropy(**a)[0], {"smoother": ("exact", uniform(b, b)), "diagonal": ("columns", uniform(b, d)), "gram": ("exact", uniform(b, b))}),
        "shrunk": (lambda **a: au.shrunk(**a, pseudo=1.0), variances),
        "noise_unit": (au.noise_unit, variances | {"sigma": ("number", torch.tensor(2.0))}),
        "tail_bins": (lambda counts: isda.tail_bins(counts).float(), {"counts": ("vector", counts["counts"][1])}),
        "tail_strength": (isda.tail_strength, {"counts": ("vector", counts["counts"][1])}),
        "reasoning": (isda.reasoning, {k: matrix[k] for k in ("confusion", "count")}),
        "region_density": (mi.region_density, {"counts": ("vector", counts["counts"][1])}),
        "prediction_entropy": (mi.prediction_entropy, {"confusion": ("square", matrix["confusion"][1])}),
        "characteristics": (mi.characteristics, {"counts": counts["counts"], "confusion": matrix["confusion"], "loss": ("exact", uniform(b))}),
        "standardise": (mi.standardise, {"x": ("columns", uniform(b, 4)), "used": ("exact", torch.ones(b, dtype=torch.bool))}),
        "ProjectedStats.update": (projected_after, feat | bins | {"proj": ("sample", uniform(n))}),
        "BinMean.update": (bin_mean_after, {"values": ("sample", uniform(n))} | own),
        "law_loss": (lambda **a: su.law_loss(**a, law=su.LAWS["laplace"]), {k: sample[k] for k in ("pred", "target")} | values | eta | log_prior | sigma),
        "split_bound": (su.split_bound, {k: augmented[k] for k in ("pred", "target", "var", "shift")} | values | eta | log_prior | sigma),
        "monte_carlo_loss": (lambda **a: su.monte_carlo_loss(**a, draws=4)[0], {k: augmented[k] for k in ("pred", "target", "var", "shift")} | values | eta | log_prior | sigma),
    }
    remse = rm.ReMSELoss(grid, counts["counts"][1], d, clusters=Clusters(2, form="factor"), reduction="none")
    balanced = {"values": grid.values, "counts": counts["counts"][1], "decoder": Decoder(), **none}
    gai = bm.GAILoss(*(t for _, t in mixture.values()), **balanced)
    soft = {"labels": ("exact", uniform(n, b).softmax(1))}
    outputs = {"t": ("exact", uniform(n, k)), "y": ("sample", grid.values[torch.arange(n) % b] + 0.1)}
    known = lm.LabelModel(grid, k).fit(*(x for _, x in outputs.values()))
    ranked = {
        "rank_loss": (lambda **a: rk.rank_loss(**a, **none), {"logits": ("exact", uniform(n, b)), **soft, "widen": ("exact", uniform(n, b)), "weight": sample["weight"]}),
        "rank_loss, a prior for each": (lambda log_prior: rk.rank_loss(torch.ones(n, b), soft["labels"][1], torch.atleast_2d(log_prior), **none), {"log_prior": ("exact", uniform(n, b))}),
        "RankLoss()": (lambda counts: rk.RankLoss(grid, counts, d).log_prior, counts),
        "RankLoss": (lambda **a: rk.RankLoss(grid, many, d, reduction="none").eval()(torch.ones(n), **a), {k: sample[k] for k in ("target", "weight")} | feat),
        "RankLoss in training": (lambda **a: rk.RankLoss(grid, many, d, augmentation=BinAugmentation(), reduction="none")(torch.ones(n), **a), {k: sample[k] for k in ("target", "weight")} | feat),
        **{f"{basis}": (basis, {"values": ("vector", grid.values)}) for basis in (bh.Legendre(2), bh.Radial(2), bh.Free())},
        "BinHead": (lambda feat: bh.BinHead(grid.values, d)(feat), {"feat": ("rows", feat["feat"][1])}),
        "BinHead.measure": (lambda **a: bh.BinHead(grid.values, d).measure(**a) or torch.ones(1), {"mean": ("exact", uniform(d)), "std": ("exact", uniform(d))}),
        "SoftLabels": (lambda target: bh.SoftLabels(0.75, "histogram").setup(grid)(target, bins["bins"][1]), {"target": sample["target"]}),
        "LabelModel.fit": (lambda **a: lm.LabelModel(grid, k).fit(**a).mean, outputs),
        "LabelModel.log_density": (known.log_density, {"t": ("rows", outputs["t"][1])}),
    }
    opinions = {name: ("exact", uniform(n, k)) for name in ("mean", "log_scale")}
    latents = {name: ("exact", uniform(n, d)) for name in ("mean", "var")}
    law = vir.NIG.observed(uniform(n, 3))

    def vir_in_training(**args):
        torch.manual_seed(0)
        return vir.VIRLoss(grid, many, d, vir.LatentSmoothing(b, d))(torch.ones(n), **args)

    def uvote_of(**args):
        torch.manual_seed(0)
        return uv.UVOTELoss(grid, many, d, k)(torch.ones(n), **args)

    heads = {
        "laplace_nll": (uv.laplace_nll, opinions | {"target": sample["target"]}),
        "vote": (lambda **a: torch.stack(uv.vote(**a)), opinions),
        "expert_weights": (lambda counts: uv.expert_weights(counts, k), {"counts": ("vector", counts["counts"][1])}),
        "UVOTELoss": (uvote_of, {k: sample[k] for k in ("target", "weight")} | feat),
        "UVOTELoss()": (lambda counts: uv.UVOTELoss(grid, counts, d).table, counts),
        "NIG.observed": (lambda **a: vir.NIG.observed(**a).v, {"raw": ("exact", uniform(n, 3)), "weight": sample["weight"]}),
        "NIG.nll": (law.nll, {"target": sample["target"]}),
        "NIG.strain": (law.strain, {"target": sample["target"]}),
        "LatentSmoothing": (lambda **a: torch.cat(vir.LatentSmoothing(b, d)(**a)), latents | bins),
        "VIRLoss": (vir_in_training, {k: sample[k] for k in ("target", "weight")} | feat),
        "VIRLoss()": (lambda counts: vir.VIRLoss(grid, counts, d).centre, counts),
    }
    u, at, level = ("exact", uniform(n, b)), ("sample", uniform(n) * b), torch.arange(b) * k // b
    member = torch.nn.functional.one_hot(level).float()
    heads |= {
        "expectation_loss": (lambda **a: ld.expectation_loss(**a, **none), {"logits": ("columns", u[1]), "at": at, "weight": sample["weight"]}),
        "mean_variance_loss": (lambda **a: mv.mean_variance_loss(**a, **none), {"logits": ("columns", u[1]), "at": at, "weight": sample["weight"]}),
        "hierarchy": (lambda counts: hca.hierarchy(counts, 2).float(), {"counts": ("vector", counts["counts"][1])}),
        "combine": (lambda fine, coarse, classes: hca.combine(fine, [coarse], classes), {"fine": soft["labels"], "coarse": ("exact", uniform(n, k)), "classes": ("exact", level[None])}),
        "pooled": (hca.pooled, {"logits": ("rows", u[1]), "member": ("columns", member)}),
        "distillation": (hca.distillation, {"student": u, "teacher": ("exact", uniform(n, k)), "member": ("exact", member)}),
        **{type(term).__name__: (lambda term=term, **a: rk.RankLoss(grid, many, d, beside=term, reduction="none").eval()(torch.ones(n), **a), {x: sample[x] for x in ("target", "weight")} | feat)
           for term in (ld.ExpectationTerm(), mv.MeanVarianceTerm(), hca.HCATerm())},
    }
    trace = {"trace": ("exact", uniform(b, d) - .5)}
    there = {"valid": ("exact", torch.ones(b, dtype=torch.bool))}
    proxies = {"proxy": ("exact", uniform(k, d) - .5), "value": ("exact", torch.arange(float(k)))}
    envelope = srl.SRLLoss(b, d)
    envelope.refresh(*(x for _, x in (trace | there).values()))
    points, near = uniform(7, d), pr.PRIMELoss(grid, d)
    terms_of_2025 = {
        "label_density": (lambda label, count: dl.label_density(label, grid.values, count=count), {"label": ("sample", sample["target"][1]), "count": ("sample", uniform(n))}),
        "label_density, values": (lambda values: dl.label_density(sample["target"][1], values), {"values": ("vector", grid.values)}),
        "pseudo_labels": (lambda **a: dl.pseudo_labels(**a, n=9), {"density": ("exact", prior["prior"][1] / prior["prior"][1].sum())} | values),
        "soft_sort": (dl.soft_sort, {"x": ("samples", sample["pred"][1])}),
        "dist_loss": (dl.dist_loss, {"pred": sample["pred"], "pseudo": ("sample", sample["target"][1].sort().values), "weight": sample["weight"]}),
        "DistLoss()": (lambda counts: dl.DistLoss(grid, counts).density, counts),
        "DistLoss": (lambda pred: dl.DistLoss(grid, torch.ones(b))(pred), {"pred": ("samples", sample["pred"][1])}),
        "DistLoss, weighted": (lambda weight: dl.DistLoss(grid, torch.ones(b))(sample["pred"][1], weight), {"weight": sample["weight"]}),
        "enveloping_loss": (srl.enveloping_loss, trace | {"points": ("rows", points)} | there),
        "homogeneity_loss": (srl.homogeneity_loss, {"trace": ("columns", trace["trace"][1])} | values | there),
        "bin_centroids": (lambda feat, target: srl.bin_centroids(feat, target, b)[0], {"feat": ("columns", feat["feat"][1]), "target": ("sample", bins["bins"][1])}),
        "centroid_contrast": (lambda feat, target, trace, valid: srl.centroid_contrast(feat, target, trace, valid=valid), feat | {"target": ("sample", bins["bins"][1])} | trace | there),
        "SRLLoss": (lambda feat, target: envelope(feat, target, points), feat | {"target": ("sample", bins["bins"][1])}),
        "SRLLoss, points": (lambda points: envelope(feat["feat"][1], bins["bins"][1], points), {"points": ("rows", points)}),
        "SRLLoss.refresh": (lambda centroid, there: envelope.refresh(centroid, there) or torch.ones(1), {"centroid": trace["trace"], "there": there["valid"]}),
        "proxy_loss": (pr.proxy_loss, proxies | {"proxy": ("columns", proxies["proxy"][1])}),
        "align_loss": (pr.align_loss, feat | {"target": sample["target"], "weight": sample["weight"]} | proxies),
        "PRIMELoss": (near, feat | {"target": sample["target"], "weight": sample["weight"]}),
    }
    return augmenting | ranked | heads | terms_of_2025 | {
        "pair": (lambda **a: torch.stack(shapes.pair(**a)), {k: sample[k] for k in ("pred", "target")}),
        "reduce_loss": (lambda **a: shapes.reduce_loss(**a, **none), {"loss": ("exact", uniform(n)), "weight": sample["weight"]}),
        "target_std": (lambda **a: torch.tensor(target_std(**a)), counts | values),
        "Noise.setup": (lambda **a: Noise(2.0, unit="std").setup(**a).sigma, counts | values),
        "Noise.gather": (noise_after, {"error": ("sample", uniform(n)), "weight": sample["weight"]}),
        "posterior": (lambda **a: posterior(torch.ones(n), **a), values | sigma | log_prior),
        "posterior_mean": (lambda **a: posterior_mean(torch.ones(n), **a), values | sigma | log_prior),
        "posterior_median": (lambda **a: posterior_median(torch.ones(n), **a), values | sigma | log_prior),
        "Balance.weights": (lambda counts: Balance(1, 1).weights(counts)[:b].sum(), {"counts": ("vector", counts["counts"][1])}),
        "Balance.log_prior": (lambda counts: Balance(1, 1).log_prior(counts)[:b].sum(), {"counts": ("vector", counts["counts"][1])}),
        "cluster_posterior": (lambda **a: cluster_posterior(**a, n_bins=b, n_clusters=k), {"labels": ("exact", whole(k, n))} | bins),
        "Reservoir.gather": (pool_after, feat | bins),
        "Clusters.gather": (clusters_after, feat | bins),
        "Clusters.assign": (remse.clusters.assign, {"feat": ("rows", feat["feat"][1])}),
        "l1_loss": (lambda **a: pw.l1_loss(**a, **none), sample),
        "mse_loss": (lambda **a: pw.mse_loss(**a, **none), sample),
        "huber_loss": (lambda **a: pw.huber_loss(**a, **none), sample),
        "focal_r_loss": (lambda **a: pw.focal_r_loss(**a, **none), sample),
        "L1Loss": (pw.L1Loss("none"), sample),
        "MSELoss": (pw.MSELoss("none"), sample),
        "HuberLoss": (pw.HuberLoss(reduction="none"), sample),
        "FocalRLoss": (pw.FocalRLoss(reduction="none"), sample),
        "bmc_loss": (lambda **a: bm.bmc_loss(**a, **none), sample | variance),
        "gai_loss": (lambda **a: bm.gai_loss(**a, **none), sample | variance | mixture),
        "bni_loss": (lambda **a: bm.bni_loss(**a, **none), sample | variance | values | prior),
        "bmc_loss_md": (lambda **a: bm.bmc_loss_md(**a, **none), labels | variance),
        "gai_loss_md": (lambda **a: bm.gai_loss_md(**a, **none), labels | variance | {"gmm_weights": mixture["gmm_weights"], "gmm_means": ("exact", uniform(k, d))} | covs),
        "bni_loss_md": (lambda **a: bm.bni_loss_md(**a, **none), labels | variance | {"values": ("exact", uniform(b, d))} | prior),
        "BMCLoss": (bm.BMCLoss(**balanced), sample),
        "GAILoss": (gai, sample),
        "BNILoss": (bm.BNILoss(**balanced), sample),
        "BMCLoss()": (lambda **a: bm.BMCLoss(Noise(1.0, unit="std"), **a).noise.sigma, values | counts),
        "GAILoss()": (lambda **a: bm.GAILoss(**a).gmm_weights, mixture),
        "BNILoss()": (lambda **a: bm.BNILoss(**a).prior, values | counts),
        "competitors": (lambda **a: rm.competitors(**a, eta_form="factor")[2], values | eta | log_prior | {"cluster": ("samples", whole(k, n))}),
        "remse_loss": (lambda **a: rm.remse_loss(**a, **none), sample | values | eta | log_prior | sigma),
        "remse_loss factor": (lambda **a: rm.remse_loss(**a, **none, eta_form="factor"), sample | values | eta | log_prior | sigma | {"cluster": ("sample", whole(k, n))}),
        "ReMSELoss": (remse.eval(), sample | feat),
        "ReMSELoss in training": (rm.ReMSELoss(grid, torch.full((b,), 10_000), d, clusters=Clusters(2), reduction="none"), sample | feat),
        "ReMSELoss()": (lambda counts: rm.ReMSELoss(grid, counts).bin_weight, counts),
        "batch_labels": (lambda target: oe.batch_labels(target)[0], {"target": ("samples", sample["target"][1])}),
        "diversity": (oe.diversity, {"proto": ("columns", uniform(n, d)), "target": sample["target"], "first": ("exact", torch.ones(n, dtype=torch.bool))}),
        "tightness": (oe.tightness, feat | {"proto": ("exact", uniform(n, d))}),
        "ordinal_entropy_loss": (oe.ordinal_entropy_loss, {"feat": ("columns", feat["feat"][1]), "target": sample["target"]}),
        "OrdinalEntropyLoss": (oe.OrdinalEntropyLoss(), {"feat": ("columns", feat["feat"][1]), "target": sample["target"]}),
        "ranksim_loss": (rs.ranksim_loss, {"feat": ("columns", feat["feat"][1]), "target": sample["target"]}),
        "RankSimLoss": (rs.RankSimLoss(), {"feat": ("columns", feat["feat"][1]), "target": sample["target"]}),
        "contrast": (rn.contrast, {"sim": ("exact", -uniform(n, n)), "far": ("exact", uniform(n, n))}),
        "rank_n_contrast_loss": (rn.rank_n_contrast_loss, {"feat": ("columns", feat["feat"][1]), "target": sample["target"]}),
        "RankNContrastLoss": (rn.RankNContrastLoss(), {"feat": ("columns", feat["feat"][1]), "target": sample["target"]}),
        "conr_loss": (lambda **a: cr.conr_loss(**a, width=1.5), {"feat": ("columns", feat["feat"][1])} | sample),
        "ConRLoss": (cr.ConRLoss(grid, width=1.5), {"feat": ("columns", feat["feat"][1])} | sample),
        **terms_of_2025,
    }


ALL = {size: rows(*numbers) for size, numbers in SIZES.items()}


def of_shape(x: torch.Tensor, shape: tuple) -> torch.Tensor:
    "The numbers of `x`, repeated or left out, in another shape."
    count = int(torch.tensor(shape).prod()) if shape else 1
    return x.flatten()[torch.arange(count) % x.numel()].reshape(shape)


def odd_shapes(x: torch.Tensor) -> set:
    "Shapes that people hand in instead of the right one."
    n = len(x) if x.ndim else 1
    every = {(), (0,), (1,), (n,), (n + 1,), (n, 1), (1, n), (1, 1), (n, n), (n, 1, 1)}
    if x.ndim > 1: every |= {(*x.shape[:-1], x.shape[-1] + 1), (n + 1, *x.shape[1:]), (1, *x.shape[1:]), (*x.shape, 1), tuple(x.shape[1:]), (*x.shape[:-1], 1)}
    return every - {tuple(x.shape)}


def allowed(role: str, x: torch.Tensor, shape: tuple) -> bool | None:
    "Whether another shape means the same numbers; None if it is a right shape for other numbers."
    if role == "number": return int(torch.tensor(shape).prod()) == 1
    if role == "each" and shape == () or role == "square" and len(shape) == 2 and shape[0] == shape[1]: return None
    if role == "samples" and (len(shape) == 1 or len(shape) == 2 and shape[1] == 1): return shape == (len(x), 1) or None
    if role == "vector" and len(shape) == 1 and shape != (0,): return None
    if role == "rows" and shape[1:] == x.shape[1:] and shape: return None
    if role == "columns" and len(shape) == 2 and shape[0] == x.shape[0]: return None
    return role in ("sample", "each") and shape == (len(x), 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ALL["equal"])
def test_shapes(name, size):
    call, arguments = ALL[size][name]
    good = {arg: x for arg, (_, x) in arguments.items()}
    expected, wrong = call(**good), []
    assert expected.isfinite().all()
    for arg, (role, x) in arguments.items():
        for shape in sorted(odd_shapes(x)):
            same = allowed(role, x, shape)
            if same is None: continue
            try: got = call(**good | {arg: of_shape(x, shape)})
            except (TypeError, ValueError) as e:
                text = str(e)
                if same: wrong.append(f"{arg} {shape} refused: {text}")
                elif "\n" in text or not any(a in text for a in good): wrong.append(f"{arg} {shape}: the error names no argument: {text}")
            except Exception as e: wrong.append(f"{arg} {shape}: {type(e).__name__}: {e}")
            else:
                if not same: wrong.append(f"{arg} {shape} accepted, gives {tuple(got.shape)}")
                elif not torch.equal(got, expected): wrong.append(f"{arg} {shape} gives other numbers")
    assert not wrong, "\n".join(wrong)


def test_ages_of_one_bin():
    "A single sample, a single bin: the smallest shapes are right ones, not odd ones."
    one = torch.ones(1)
    assert rm.remse_loss(one, one, one, torch.ones(1, 1), torch.zeros(1)).item() == 0
    assert bm.bni_loss(one[:, None], one, 1.0, one, one).item() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "4e-3", True])
def test_numbers(value):
    "What is no number is refused by name."
    makes = {
        "rank": [lambda: bh.Legendre(value), lambda: bh.Radial(value), lambda: lm.LabelModel(BinGrid(0, 3, 1), value)],
        "tau": [lambda: lm.LabelDecoder(value), lambda: Decoder("median", value)],
        "pooled": [lambda: lm.LabelDecoder(pooled=value)],
        "width": [lambda: bh.SoftLabels(value), lambda: cr.ConRLoss(BinGrid(0, 3, 1), value)],
        "beta": [lambda: BinAugmentation(value), lambda: au.Augmentation(value), lambda: isda.OwnBin(value), lambda: isda.Reasoning(value), lambda: mi.MetaAugmentation(value), lambda: pw.HuberLoss(value), lambda: pw.FocalRLoss(beta=value), lambda: pw.huber_loss(torch.ones(2), torch.ones(2), beta=value)],
        "gamma": [lambda: pw.FocalRLoss(gamma=value), lambda: rs.ranksim_loss(torch.ones(2, 2), torch.ones(2), gamma=value)],
        "scale": [lambda: Noise(value)],
        "weight": [lambda: Balance(weight=value)],
        "prior": [lambda: Balance(prior=value)],
        "k": [lambda: Clusters(value)],
        "shrink": [lambda: Clusters(2, shrink=value)],
        "sample": [lambda: Clusters(2, sample=value)],
        "levels": [lambda: hca.HCATerm(value)],
        "mean": [lambda: mv.MeanVarianceTerm(value)],
        "variance": [lambda: mv.MeanVarianceTerm(variance=value)],
        "bandwidth": [lambda: dl.DistLoss(BinGrid(0, 3, 1), torch.ones(3), value)],
        "epsilon": [lambda: dl.DistLoss(BinGrid(0, 3, 1), torch.ones(3), epsilon=value), lambda: dl.soft_sort(torch.ones(2), value), lambda: dl.dist_loss(torch.ones(2), torch.ones(2), epsilon=value)],
        **{name: [lambda name=name: srl.SRLLoss(3, 4, **{name: value})] for name in ("envelope", "homogeneity", "contrast", "momentum", "points")},
        **{name: [lambda name=name: pr.PRIMELoss(BinGrid(0, 3, 1), 4, **{name: value})] for name in ("proxies", "tau_target", "tau_feat")},
        "strength": [lambda: ld.ExpectationTerm(value), lambda: dl.DistLoss(BinGrid(0, 3, 1), torch.ones(3), strength=value), lambda: srl.SRLLoss(3, 4, strength=value), lambda: pr.PRIMELoss(BinGrid(0, 3, 1), 4, strength=value), lambda: oe.OrdinalEntropyLoss(strength=value), lambda: rs.RankSimLoss(strength=value), lambda: rn.RankNContrastLoss(strength=value), lambda: cr.ConRLoss(BinGrid(0, 3, 1), strength=value)],
        "lam": [lambda: rs.ranksim_loss(torch.ones(2, 2), torch.ones(2), value), lambda: rs.RankSimLoss(value)],
        "temperature": [lambda: srl.SRLLoss(3, 4, temperature=value), lambda: rn.RankNContrastLoss(value), lambda: cr.ConRLoss(BinGrid(0, 3, 1), temperature=value)],
        "push": [lambda: cr.ConRLoss(BinGrid(0, 3, 1), push=value)],
        "alpha": [lambda: pr.PRIMELoss(BinGrid(0, 3, 1), 4, alpha=value), lambda: au.Augmentation(alpha=value), lambda: isda.Reasoning(alpha=value)],
        "tail": [lambda: au.Augmentation(tail=value)],
        "ramp_epochs": [lambda: isda.OwnBin(ramp_epochs=value)],
        "many": [lambda: isda.Reasoning(many=value)],
        "v_start": [lambda: mi.MetaAugmentation(v_start=value)],
        "max_scale": [lambda: mi.MetaAugmentation(max_scale=value)],
        "lr": [lambda: mi.MetaStep(lr=value)],
        "every": [lambda: mi.MetaStep(every=value)],
        "inner": [lambda: mi.MetaStep(inner=value)],
        "n_components": [lambda: bm.GAILoss.fit(torch.arange(9.0), n_components=value)],
        "noise_sigma": [lambda: posterior_mean(torch.ones(2), torch.arange(3.0), value), lambda: rm.remse_loss(torch.ones(2), torch.ones(2), torch.arange(3.0), noise_sigma=value)],
        "experts": [lambda: uv.expert_weights(torch.ones(3), value), lambda: uv.UVOTELoss(BinGrid(0, 3, 1), torch.ones(3), 2, value)],
        "penalty": [lambda: vir.VIRLoss(BinGrid(0, 3, 1), torch.ones(3), 2, penalty=value)],
        "divergence": [lambda: vir.VIRLoss(BinGrid(0, 3, 1), torch.ones(3), 2, divergence=value)],
        "noise_var": [lambda: bm.bmc_loss(torch.ones(2), torch.ones(2), value)],
    }
    for name, calls in makes.items():
        for call in calls:
            with pytest.raises(ValueError, match=f"^{name}=") as e: call()
            assert "\n" not in str(e.value)
