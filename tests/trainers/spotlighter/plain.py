"""The fit in its plain form: every token centred, every gradient kept, the ridge as its equation. For small sizes.

B images      N patch tokens      C classes      d joint width      K prototypes a class      M = C * K
"""

import math

import torch
import torch.nn.functional as F

from tests.trainers.spotlighter.world import unit
from trainers.spotlighter import fit
from trainers.spotlighter.drop import standardise, take
from trainers.spotlighter.head import BELIEVED, Selection


def select(head, f, v, text, prototypes, image_mean, token_mean, semantic=True):
    q = head.scalars
    v = unit(v - q.g_v * token_mean)  # (B, N, d)
    p = (head.logit_scale * unit(f - q.g * image_mean) @ text.t()).softmax(dim=1)  # (B, C)
    activation = q.theta[0] * standardise(torch.einsum("bnd,bd->bn", v, p @ text))
    if semantic:
        p, believed = p.topk(min(BELIEVED, len(text)), dim=1)
        nearest = torch.einsum("bnd,bckd->bnck", v, prototypes[believed]).amax(dim=-1)
        activation = activation + q.theta[1] * standardise(torch.einsum("bnc,bc->bn", nearest, p))
    top, index = activation.topk(head.kept, dim=1)
    return Selection(top, index, take(v, index))


def cluster(f, y, count):
    """(B,): class * count + k, class by class."""
    index = torch.empty_like(y)
    for c in y.unique():
        mine = f[y == c]
        k = torch.arange(len(mine)) % count
        for _ in range(6):
            similarity = torch.full((len(mine), count), -2.0)
            for j in k.unique():
                similarity[:, j] = mine @ unit(mine[k == j].mean(0))
            k = similarity.argmax(dim=1)
        index[y == c] = c * count + k
    return index


def means_of(x, index, clusters):
    member = F.one_hot(index, clusters).float()
    counts = member.sum(dim=0)
    return member.t() @ x / counts.clamp_min(1)[:, None], counts


def build_bank(head, f, v, y, t, z):
    """Prototypes, T, t̄, m_f, m_v, m_1 and m_2, and X' S."""
    C, M = len(t), len(t) * head.count
    image_mean, token_mean = f.mean(0), v.mean((0, 1))
    anchored = unit(t + head.scalars.b * z)
    text_mean = anchored.mean(0)
    text = unit(anchored - head.scalars.g * text_mean)
    index = cluster(f, y, head.count)
    with torch.no_grad():
        first = head.levels(select(head, f, v, text, None, image_mean, token_mean, semantic=False))[:, 0]
        means, counts = means_of(first, index, M)
        whole = (means * counts[:, None]).view(C, head.count, -1).sum(1).repeat_interleave(head.count, dim=0)
        prototypes = unit(torch.where(counts[:, None] > 0, means, whole)).view(C, head.count, -1)
    levels = head.levels(select(head, f, v, text, prototypes, image_mean, token_mean))
    level_means = levels.mean(0).detach()
    keys, counts = means_of(interaction(head, f, levels, image_mean, level_means), index, M)
    target = (anchored - text_mean).repeat_interleave(head.count, dim=0) - means_of(f - image_mean, index, M)[0]
    kernel = keys @ keys.t() + head.scalars.log_lambda.exp() * torch.diag(1 / counts.clamp_min(1))
    solution = torch.linalg.solve(kernel, target * (counts > 0)[:, None])
    return prototypes, text, text_mean, image_mean, token_mean, level_means, keys.t() @ solution


def interaction(head, f, levels, image_mean, level_means):
    parts = torch.stack([f - image_mean, *(levels - level_means).unbind(1)], dim=1)
    return (head.scalars.omega[:, None] * parts).flatten(1)


def logits(head, f, v, bank, text=None, prototypes=None):
    """Of the bank's classes, or of others by their T and P."""
    P, T, _, image_mean, token_mean, level_means, ridge = bank
    T, P = (T, P) if text is None else (text, prototypes)
    q = head.scalars
    levels = head.levels(select(head, f, v, T, P, image_mean, token_mean))
    x = interaction(head, f, levels, image_mean, level_means)
    both = torch.cat([levels, unit(levels.sum(1, keepdim=True))], dim=1)
    u = f - q.g * image_mean + q.alpha * x @ ridge + (q.gamma[:, None] * both).sum(1)
    return head.logit_scale * q.delta.exp() * unit(u) @ T.t()


def unseen_loss(head, memory, out, t, z, left_out):
    """With the classes of a mask left out of the bank, whose prototypes are carried over."""
    seen = ~left_out
    f, v, y = (x[seen[memory[2]]] for x in memory)
    bank = build_bank(head, f, v, (seen.cumsum(0) - 1)[y], t[seen], z[seen])
    P, T, text_mean, *_ = bank
    text = unit(unit(t + head.scalars.b * z) - head.scalars.g * text_mean)
    near = (text @ T.t() / head.scalars.tau_b.clamp_min(0.02)).softmax(1)
    prototypes = unit(text[:, None] + torch.einsum("nc,ckd->nkd", near, P - T[:, None]))
    prototypes = prototypes.index_copy(0, seen.nonzero()[:, 0], P)
    return F.cross_entropy(logits(head, out[0], out[1], bank, text, prototypes), out[2])


def fit_scalars(head, f, v, y, t, z, seed, pull, unseen):
    scalars = dict(head.scalars.named_parameters())
    others = [p for name, p in scalars.items() if name != "delta"]
    initial = [p.detach().clone() for p in others]
    optimiser = torch.optim.Adam([{"params": others}, {"params": [scalars["delta"]]}])
    halves, classes = (torch.Generator().manual_seed(seed) for _ in range(2))
    for step in range(fit.FIT_STEPS):
        rate = 0.5 * (1 + math.cos(step / fit.FIT_STEPS * math.pi))
        optimiser.param_groups[0]["lr"] = fit.FIT_LR * rate * (step >= fit.FIT_WARMUP)
        optimiser.param_groups[1]["lr"] = fit.FIT_LR_SCALE * rate
        mask = fit.half_of_each_class(y, halves)
        memory, out = [x[mask] for x in (f, v, y)], [x[~mask] for x in (f, v, y)]
        loss = F.cross_entropy(logits(head, out[0], out[1], build_bank(head, *memory, t, z)), out[2])
        loss = loss + pull * sum(((p - p0) ** 2).sum() for p, p0 in zip(others, initial, strict=True))
        optimiser.zero_grad()
        loss.backward()
        scalars["tau_b"].grad = torch.zeros(()) if scalars["tau_b"].grad is None else scalars["tau_b"].grad
        if (left_out := fit.classes_left_out(len(t), step, unseen, classes)) is not None:
            loss = unseen_loss(head, memory, out, t, z, left_out)
            scalars["tau_b"].grad += torch.autograd.grad(loss, scalars["tau_b"])[0]
        optimiser.step()
